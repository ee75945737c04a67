#!/bin/bash
# Draw atoms.png and thermodynamics.png.
set -euo pipefail

. ./software.sh
use_python
"$PYTHON" lj_melt_pictures.py

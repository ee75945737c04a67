#!/bin/bash
# Draw phase_transition.png.
set -euo pipefail

. ./software.sh
use_python
"$PYTHON" ising_2d_pictures.py

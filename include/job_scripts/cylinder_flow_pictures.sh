#!/bin/bash
# Draw vortex_street.png and forces.png.
set -euo pipefail

. ./software.sh
use_python
"$PYTHON" cylinder_flow_pictures.py

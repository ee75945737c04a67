#!/bin/bash
# Draw finite_size.png, and make the summary of the sweep: summary.csv and summary.png.
set -euo pipefail

. ./software.sh
use_python
"$PYTHON" sweep_summary.py
"$PYTHON" ising_sweep_pictures.py

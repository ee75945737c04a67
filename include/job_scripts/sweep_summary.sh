#!/bin/bash
# Gather what the points of a sweep reported: summary.csv and summary.png.
set -euo pipefail

. ./software.sh
use_python
"$PYTHON" sweep_summary.py

#!/bin/bash
# One point of a sweep of the two-dimensional Ising model: one lattice at one temperature, its numbers in $NUMBERS.
# Parameters: PARAM_SIZE, PARAM_TEMPERATURE, PARAM_SWEEPS, PARAM_SEED.
set -euo pipefail

. ./software.sh
use_python

export OMP_NUM_THREADS=1
"$PYTHON" ising_2d.py \
    --size "$PARAM_SIZE" --temperature "$PARAM_TEMPERATURE" --sweeps "$PARAM_SWEEPS" --seed "$PARAM_SEED" |
    tee -a "$NUMBERS"

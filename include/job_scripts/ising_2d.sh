#!/bin/bash
# The two-dimensional Ising model on one node: magnetisation.csv and lattices.npz.
# Parameters: PARAM_SIZE, PARAM_SWEEPS, PARAM_TEMPERATURES, PARAM_SEED.
set -euo pipefail

. ./software.sh
use_python

# One thread a process: the temperatures are the parallelism.
export OMP_NUM_THREADS=1
"$PYTHON" ising_2d.py \
    --size "$PARAM_SIZE" --sweeps "$PARAM_SWEEPS" --temperatures "$PARAM_TEMPERATURES" --seed "$PARAM_SEED" \
    --processes "${SLURM_CPUS_PER_TASK:-1}"

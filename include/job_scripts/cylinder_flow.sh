#!/bin/bash
# Flow past a cylinder over MPI: cylinder_flow.py writes velocity.npy, forces.csv and summary.json.
# Parameters: PARAM_NX, PARAM_NY, PARAM_REYNOLDS, PARAM_STEPS.
set -euo pipefail

. ./software.sh
use_mpi
use_python

# One thread a task: the tasks are the parallelism.
export OMP_NUM_THREADS=1
mpirun "$PYTHON" cylinder_flow.py \
    --nx "$PARAM_NX" --ny "$PARAM_NY" --reynolds "$PARAM_REYNOLDS" --steps "$PARAM_STEPS"

#!/bin/bash
run="$SLURM_JOB_NAME - $SLURM_JOB_ID"
echo "begin $run" >>"$PARAM_RAN"
echo "begin $SLURM_JOB_NAME"
until [ -e go ] || [ "$SECONDS" -ge "$PARAM_SECONDS" ]; do sleep 0.2; done
echo "end $SLURM_JOB_NAME"
echo "end $run" >>"$PARAM_RAN"

#!/bin/bash
echo "$SLURM_JOB_NAME" >>ran
until [ -e go ]; do sleep 0.2; done

#!/bin/bash
# Slurm's resume and suspend program: names the nodes to whoever plays EC2. A slurmd started from here would inherit a blocked
# SIGTERM and die with this process group, so nothing is started here.
echo "$(basename "$0" .sh) $1" >/opt/parallelcluster/shared/ec2

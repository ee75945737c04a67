"""Hundreds of faults put into the life of jobs, on the real Slurm and sshd of a local region: `make chaos-jobs`."""

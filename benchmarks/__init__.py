"""What the product costs, beside its peers, on a real Slurm and a real sshd."""

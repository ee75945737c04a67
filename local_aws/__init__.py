"""An AWS region on one machine: moto as the endpoint, real Slurm, munge and OpenSSH behind it.

`python -m local_aws up` starts it; `local_aws.testing.LocalRegion` is the same thing as a fixture. Nothing in
here knows the product that is run against it.
"""

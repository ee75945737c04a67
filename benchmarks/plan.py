"""What is measured, and how far."""

SSH_OPERATOR, SQUEUE = "SSHRemoteJobOperator", "an squeue a job"
#: Seconds of the longest pause of our trigger, and of the peers' interval.
INTERVAL = 10.0
#: Jobs of each way to wait that run, and end when they are told.
ENDING = 4
#: The wait whose cost has targets.
BOUND = 1000
#: Jobs that the cluster must be able to hold: those of the last size, and all that were ended a short time ago.
MOST_JOBS = 40_000

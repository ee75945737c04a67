"""The exceptions that tasks raise, as one tree.

`hpc.retries` matches on it, so where an error stands decides whether it is retried.

Every message names the cluster or file, the state, the reason, and what the reader can do: use `remedy` for the last.
"""

from __future__ import annotations


class HpcError(Exception):
    """Base of all errors of this package. `remedy` is the sentence that tells the reader what to do about it."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(f"{message}\n  What to do: {remedy}" if remedy else message)


class ConfigurationError(HpcError):
    """A simulation, template, parameter or account setting is wrong. Trying again cannot help."""


class PermissionDeniedError(HpcError):
    """AWS refused the credentials or the action. Trying again cannot help."""


class TransientError(HpcError):
    """Something that usually passes by itself: worth a retry within the minute."""


class ThrottlingError(TransientError):
    """AWS asked us to slow down, or answered with a server error."""


class ConnectionLostError(TransientError):
    """The head node or an AWS endpoint did not answer, or the connection broke."""


class CapacityError(HpcError):
    """AWS has no capacity for the instances that were asked for, now: worth a retry after minutes."""


class QuotaError(HpcError):
    """A service quota of the account forbids what was asked for."""


class ClusterError(HpcError):
    """A cluster is not in the state it has to be in."""


class ClusterCreateFailedError(ClusterError):
    """The stack could not be created; the message carries the failed resources and their reasons."""


class HeadNodeBootstrapError(ClusterCreateFailedError):
    """The head node was launched but its bootstrap failed or timed out."""


class NetworkError(ClusterCreateFailedError):
    """The account's network is in the way: what the cluster needs is not reached from its subnet, or is not there."""


class SubnetFullError(NetworkError):
    """A subnet has no free address: worth another try in another subnet, or when another cluster has gone."""


class ClusterDeleteFailedError(ClusterError):
    """The stack could not be deleted. What it made is still there and may cost money."""


class LeftoversError(ClusterError):
    """The stack is gone, but something of the cluster is still there and costs money."""


class LeftoversUnknownError(ClusterError):
    """The stack is gone, but AWS did not say whether anything of the cluster is left: which is not "nothing"."""


class HostKeyError(HpcError):
    """The head node's host key is unknown or is not the one that AWS told us. Never retried: it may be an attack."""


class HeadNodeCommandError(HpcError):
    """A command on the head node ended with an error that is not the job's own."""


class JobError(HpcError):
    """Base of what can go wrong with a Slurm job."""


class JobRejectedError(JobError):
    """Slurm refused the submission, or the job can never start as it is."""


class JobFailedError(JobError):
    """The job ended in a state that is not success."""


class JobStateUnknownError(JobError):
    """Neither Slurm nor the exit record can say how the job ended."""


class AlarmError(HpcError):
    """A CloudWatch alarm that the simulation watches with `on_alarm: fail` went off."""


class ExportError(HpcError):
    """Results could not be carried to S3 or on-premises."""


class ReceiptMismatchError(ExportError):
    """What the bucket holds is not what the receipt says."""


class DeadlineExceededError(HpcError):
    """A wait took longer than it was allowed to."""


class RunFailedError(HpcError):
    """A task of the run failed: the verdict of the last task on the whole run."""

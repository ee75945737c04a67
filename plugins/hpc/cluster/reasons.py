"""What AWS's sentences mean. CloudFormation and ParallelCluster pass on messages without their codes, so words decide.

One table: the first row whose words stand in the message says which error of our tree it is and what can be done.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hpc.errors import (
    CapacityError,
    ConnectionLostError,
    HeadNodeBootstrapError,
    HpcError,
    NetworkError,
    PermissionDeniedError,
    QuotaError,
    SubnetFullError,
    ThrottlingError,
)


@dataclass(frozen=True)
class Reason:
    """One kind of refusal."""

    words: re.Pattern[str]
    error: type[HpcError]
    remedy: str


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


REASONS = (
    Reason(
        _words(
            r"insufficient\w*capacity",
            "insufficient capacity",
            "not have sufficient .{1,80}capacity",
            "not enough .{1,40}capacity",
            "capacity-not-available",
            r"SpotMaxPriceTooLow",
        ),
        CapacityError,
        "wait and try again, or name other instance types or subnets in cluster.alternatives of the simulation",
    ),
    Reason(
        _words(
            r"(not|n't) (have )?enough free (IP )?addresses",
            "no free (IP )?addresses",
            r"InsufficientFreeAddresses\w*",
        ),
        SubnetFullError,
        "delete what takes the subnet's addresses, choose a larger subnet in the Airflow Variable hpc_site, or name "
        "other subnets in cluster.alternatives of the simulation",
    ),
    Reason(
        _words(
            r"\w+LimitExceeded\b(?<!RequestLimitExceeded)",
            "vCPU limit",
            "maximum number of .{1,80}(reached|exceeded)",
            "service quota",
            "ServiceQuotaExceeded",
            "exceeds? .{0,40}quota",
        ),
        QuotaError,
        "ask for a higher quota in the Service Quotas console, or make the cluster smaller",
    ),
    Reason(
        _words(
            "rate exceeded",
            "request limit exceeded",
            "RequestLimitExceeded",
            "Throttl(ing|ed)",
            "TooManyRequests",
            "InternalFailure",
            "encountered an internal error",
            "ServiceUnavailable",
            "further retries may succeed",
            r"reached max retries",
        ),
        ThrottlingError,
        "wait a little and try again",
    ),
    Reason(
        _words(
            "not authorized to perform",
            "AccessDenied",
            "access denied",
            "UnauthorizedOperation",
            "security token included in the request",
            "InvalidClientTokenId",
            "ExpiredToken",
            "SignatureDoesNotMatch",
            "credentials not found",
            "unable to locate credentials",
        ),
        PermissionDeniedError,
        "check the AWS connection's credentials and that its policy allows the action (docs/running-on-aws.md)",
    ),
    Reason(
        _words(
            "could not connect to the endpoint",
            "connection was closed before",
            "connection reset by peer",
            "(connect|read) timeout on endpoint",
            "EndpointConnectionError",
        ),
        ConnectionLostError,
        "check the network between Airflow and AWS, and the connection's endpoint_url",
    ),
    Reason(
        _words("WaitCondition timed out", "WaitCondition received 0"),
        HeadNodeBootstrapError,
        "the head node never reported: most often its subnet has no way to the AWS endpoints (internet gateway and "
        "public address, NAT gateway, or VPC endpoints), or a security group or network ACL is in between",
    ),
    Reason(
        _words(
            "failed to run chef recipe",
            "failed to bootstrap the head node",
            "(execute|download|run) OnNode(Start|Configured) script",
            "failed to mount",
            "not baked by ParallelCluster",
            "This AMI was created with",
            "PROTECTED mode",
        ),
        HeadNodeBootstrapError,
        "read the bootstrap log, then correct the custom actions, AMI or shared storage of the cluster template",
    ),
    Reason(
        _words(r"\b(vpc|subnet)\b.{0,60}(does not exist|not found)", r"Invalid(VpcID|SubnetID|Subnet)\b"),
        NetworkError,
        "name subnets that exist in the Airflow Variable hpc_site",
    ),
)

#: Lines of a head node's log that tell of its network, not of what it was to do.
_UNREACHED = _words(
    "could not resolve host",
    "(temporary failure|failure) in name resolution",
    "network is unreachable",
    "no route to host",
    "(connection|connect|connecting|operation) (to .{1,120} )?timed out",
    "(connect|read) timeout on endpoint",
    "could not connect to the endpoint",
    "failed to connect to .{1,120}(after|port)",
    "cannot (find a valid baseurl|download repomd)",
    "curl.{0,20}(28|Timeout was reached)",
)
#: What to change when a head node does not reach what it needs.
WAY_OUT = (
    "give the head node's subnet a way to the AWS endpoints: a route to an internet gateway and a public address, a "
    "route to a NAT gateway, or VPC endpoints (CloudFormation, S3, EC2, DynamoDB, CloudWatch Logs); then look at its "
    "security groups and network ACL (docs/running-on-aws.md)"
)


def tells_of_network(lines: Iterable[str]) -> bool:
    """Say whether a head node's log tells that it did not reach something."""
    return any(_UNREACHED.search(line) for line in lines)


def find_reason(message: str) -> Reason | None:
    """Return the row of the table that a message matches; None when it says something else."""
    return next((reason for reason in REASONS if reason.words.search(message)), None)

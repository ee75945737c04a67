"""Errors of botocore, told apart by what can be done about them.

Codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and the services' common errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpc.errors import (
    CapacityError,
    ConnectionLostError,
    HpcError,
    PermissionDeniedError,
    QuotaError,
    ThrottlingError,
)

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

THROTTLING = frozenset(
    {
        *(
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestLimitExceeded",
            "TooManyRequestsException",
        ),
        *(
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "BandwidthLimitExceeded",
            "LimitExceededException",
        ),
        *("InternalError", "InternalFailure", "InternalServerError", "ServiceUnavailable", "Unavailable", "503", "500"),
    }
)
PERMISSION = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthFailure", "OptInRequired"),
        *("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"),
        *("SignatureDoesNotMatch", "InvalidAccessKeyId", "403"),
    }
)
CAPACITY = frozenset(
    {
        *("InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity"),
        *(
            "InsufficientCapacity",
            "InsufficientCapacityException",
            "SpotMaxPriceTooLow",
            "MaxSpotInstanceCountExceeded",
        ),
    }
)
QUOTA = frozenset(
    {
        *("VcpuLimitExceeded", "InstanceLimitExceeded", "VolumeLimitExceeded", "AddressLimitExceeded"),
        *("ServiceLimitExceeded", "ServiceQuotaExceededException", "FileSystemLimitExceeded"),
    }
)

_BY_CODE: tuple[tuple[frozenset[str], type[HpcError], str], ...] = (
    (THROTTLING, ThrottlingError, "wait: {action} is tried again"),
    (
        PERMISSION,
        PermissionDeniedError,
        "check the AWS connection's credentials and that its policy allows {action} (docs/running-on-aws.md)",
    ),
    (CAPACITY, CapacityError, "wait, or choose another instance type or availability zone"),
    (QUOTA, QuotaError, "ask for a higher quota in the Service Quotas console, or make the cluster smaller"),
)


def error_code(error: ClientError) -> str:
    """Return AWS's own code of an error, for example `AccessDenied`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def from_botocore(error: ClientError | BotoCoreError) -> HpcError:
    """Return the error of our tree that says what can be done about one of botocore's."""
    from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError

    if not isinstance(error, ClientError):
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return PermissionDeniedError(str(error), remedy="give the Airflow connection AWS credentials")
        return ConnectionLostError(f"AWS did not answer: {error}")
    code = error_code(error)
    for codes, kind, remedy in _BY_CODE:
        if code in codes:
            return kind(str(error), remedy=remedy.format(action=error.operation_name))
    return HpcError(str(error))


@contextmanager
def aws_errors() -> Iterator[None]:
    """Turn what botocore raises in the block into errors of our tree; one without a class of its own stays as it is."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        translated = from_botocore(error)
        if type(translated) is HpcError:
            raise
        raise translated from error

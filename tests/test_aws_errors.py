"""Errors of botocore, told apart by what can be done about them."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from hpc import errors
from hpc.aws_errors import aws_errors, from_botocore


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "said AWS"}}, "RunInstances")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("Throttling", errors.ThrottlingError),
        ("RequestLimitExceeded", errors.ThrottlingError),
        ("InternalError", errors.ThrottlingError),
        ("UnauthorizedOperation", errors.PermissionDeniedError),
        ("ExpiredToken", errors.PermissionDeniedError),
        ("InsufficientInstanceCapacity", errors.CapacityError),
        ("VcpuLimitExceeded", errors.QuotaError),
    ],
)
def test_a_code_has_its_kind_and_a_remedy(code: str, kind: type[errors.HpcError]) -> None:
    translated = from_botocore(client_error(code))
    assert type(translated) is kind
    assert translated.remedy


def test_no_answer_is_a_lost_connection() -> None:
    assert isinstance(from_botocore(EndpointConnectionError(endpoint_url="http://x")), errors.ConnectionLostError)
    assert isinstance(from_botocore(NoCredentialsError()), errors.PermissionDeniedError)


def test_an_error_without_a_class_of_its_own_stays_what_it_is() -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"), aws_errors():
        raise client_error("NoSuchBucket")
    with pytest.raises(errors.QuotaError), aws_errors():
        raise client_error("InstanceLimitExceeded")

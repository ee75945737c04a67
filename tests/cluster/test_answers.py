"""Answers captured from pcluster 3.16.1; those that need an AWS account's refusal are written after its sources."""

from __future__ import annotations

import json

import pytest

from hpc import errors
from hpc.cluster.answers import ClusterNotFoundError, parse_answer, validation_lines

from .conftest import CAPTURED


def captured(name: str) -> str:
    return (CAPTURED / f"pcluster-3.16.1-{name}.json").read_text(encoding="utf-8")


def test_a_create_that_was_accepted() -> None:
    answer = parse_answer("create-cluster", 0, captured("create"))

    assert answer["cluster"]["cloudformationStackArn"].startswith("arn:aws:cloudformation:us-east-1:")


def test_a_dry_run_that_succeeded_ends_with_1() -> None:
    answer = parse_answer("create-cluster", 1, captured("dry-run"))

    assert validation_lines(answer) == [
        "INFO DeletionPolicyValidator: The DeletionPolicy is set to Delete. The storage 'fsx' will be deleted when you "
        "remove it from the configuration when performing a cluster update or deleting the cluster."
    ]


def test_a_banner_before_the_json_is_passed_over() -> None:
    assert parse_answer("create-cluster", 1, "!! Node 24 was not tested !!\n" + captured("dry-run"))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("bad-instance-type", errors.ConfigurationError, "do not exist: [c5.tiny]"),
        ("bad-os", errors.ConfigurationError, "ERROR ConfigSchemaValidator: [('Image', {'Os': ['Must be one of"),
        ("create-exists", errors.ConfigurationError, "already exists"),
        ("describe-missing", ClusterNotFoundError, "'nosuch' does not exist"),
        ("delete-missing", ClusterNotFoundError, "'nosuch' does not exist"),
        ("no-endpoint", errors.ConnectionLostError, "Could not connect to the endpoint URL"),
        ("no-credentials", errors.PermissionDeniedError, "Unable to locate credentials"),
    ],
)
def test_each_refusal_has_its_type(name: str, error: type[errors.HpcError], words: str) -> None:
    with pytest.raises(error) as caught:
        parse_answer("some-command", 1, captured(name))

    assert type(caught.value) is error
    assert words in str(caught.value)
    assert "pcluster some-command" in str(caught.value)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("Rate exceeded", errors.ThrottlingError),
        ("Failed when calling AWS service in describe_stack: Request limit exceeded.", errors.ThrottlingError),
        (
            "Failed when calling AWS service in create_stack: User: arn:aws:iam::1:user/x is not authorized to "
            "perform: cloudformation:CreateStack on resource: arn",
            errors.PermissionDeniedError,
        ),
        ("The security token included in the request is expired", errors.PermissionDeniedError),
        ("Something that nobody has seen before", errors.ClusterError),
    ],
)
def test_words_decide_where_there_is_no_code(message: str, error: type[errors.HpcError]) -> None:
    with pytest.raises(error) as caught:
        parse_answer("create-cluster", 1, json.dumps({"message": message}))

    assert type(caught.value) is error


def test_a_validator_without_permission_is_no_wrong_configuration() -> None:
    answer = {
        "message": "Invalid cluster configuration.",
        "configurationValidationErrors": [
            {
                "level": "ERROR",
                "type": "KeyPairValidator",
                "message": "You are not authorized to perform this operation.",
            }
        ],
    }

    with pytest.raises(errors.PermissionDeniedError, match="KeyPairValidator"):
        parse_answer("create-cluster", 1, json.dumps(answer))


@pytest.mark.parametrize("stdout", ["", "Traceback (most recent call last):\n", "{broken"])
def test_what_cannot_be_read_is_an_error_that_shows_the_log(stdout: str) -> None:
    with pytest.raises(errors.ClusterError, match=r"ended with 1|Traceback") as caught:
        parse_answer("describe-cluster", 1, stdout, log_tail="the end of the log")

    assert stdout.strip() in str(caught.value)
    assert stdout or "the end of the log" in str(caught.value)


def test_wrong_arguments_are_no_api_error() -> None:
    with pytest.raises(errors.ConfigurationError, match="unrecognized arguments"):
        parse_answer("create-cluster", 2, "", log_tail="error: unrecognized arguments: --colour")

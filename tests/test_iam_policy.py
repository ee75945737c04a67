"""The policy of docs/iam-policy.json against what the product asks AWS for, and against ParallelCluster's names."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpc import PROJECT_ROOT

if TYPE_CHECKING:
    from hpc.cluster.install import Environment

POLICY = PROJECT_ROOT / "docs" / "iam-policy.json"
ACCOUNT = "arn:aws:{}:{}:ACCOUNT_ID:{}"
ASK = """
import json
from pcluster.constants import IAM_ROLE_PATH, PCLUSTER_DYNAMODB_PREFIX
from pcluster.models.s3_bucket import S3Bucket
from pcluster.templates.cdk_builder_utils import PCLUSTER_LAMBDA_PREFIX
bucket = S3Bucket.get_bucket_name("123456789012", "eu-central-1")
print(json.dumps([PCLUSTER_LAMBDA_PREFIX, PCLUSTER_DYNAMODB_PREFIX, IAM_ROLE_PATH, bucket]))
"""


def allowed(action: str, resource: str) -> bool:
    """Say whether a statement of the policy allows an action on a resource."""

    def matches(patterns: Any, word: str) -> bool:
        return any(fnmatchcase(word, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))

    statements = json.loads(POLICY.read_text(encoding="utf-8"))["Statement"]
    return any(matches(each["Action"], action) and matches(each["Resource"], resource) for each in statements)


@pytest.mark.pcluster
def test_what_the_stack_makes_has_names_that_the_policy_allows(parallelcluster: Environment) -> None:
    environment = {**os.environ, "PATH": f"{parallelcluster.bin}:{os.environ['PATH']}"}
    done = subprocess.run(
        [parallelcluster.python, "-I", "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )
    function, table, path, bucket = json.loads(done.stdout.splitlines()[-1])
    region = "eu-central-1"
    made = {
        "lambda:CreateFunction": ACCOUNT.format("lambda", region, f"function:{function}CleanupResources-1"),
        "lambda:DeleteFunction": ACCOUNT.format("lambda", region, f"function:{function}CleanupRoute53-1"),
        "dynamodb:CreateTable": ACCOUNT.format("dynamodb", region, f"table/{table}my-cluster"),
        "iam:CreateRole": ACCOUNT.format("iam", "", f"role{path}my-cluster/RoleHeadNode"),
        "iam:PassRole": ACCOUNT.format("iam", "", f"role{path}my-cluster/RoleHeadNode"),
        "iam:CreateInstanceProfile": ACCOUNT.format("iam", "", f"instance-profile{path}my-cluster/Profile"),
        "s3:CreateBucket": f"arn:aws:s3:::{bucket}",
        "s3:PutObject": f"arn:aws:s3:::{bucket}/parallelcluster/template.json",
    }
    assert [f"{action} on {resource}" for action, resource in made.items() if not allowed(action, resource)] == []


PRODUCT = sorted((PROJECT_ROOT / "plugins" / "hpc").rglob("*.py"))
#: Where an action is not called as the operation is.
ACTIONS = {
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListParts": "s3:ListMultipartUploadParts",
    "s3:UploadPart": "s3:PutObject",
}
#: What a class of the Amazon provider asks AWS for.
OF_PROVIDER = {"SnsNotifier": "sns:Publish"}
#: How policies call a service that botocore calls otherwise.
PREFIXES = {"efs": "elasticfilesystem", "resourcegroupstaggingapi": "tag", "service-quotas": "servicequotas"}


def calls_of(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each call of a method or function in a module: its name, and those of its arguments that are texts."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            yield (
                name,
                [each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str)],
            )


def services_of(file: Path) -> set[str]:
    """Return the services that a module makes clients of."""
    makes_clients = ("client", "clients", "AwsGenericHook", "AwsBaseHook", "get_service_endpoint_url")
    return {text for name, texts in calls_of(file) if name in makes_clients for text in texts}


def operations(services: set[str]) -> dict[str, dict[str, str]]:
    """Return what botocore calls the operations of services, by boto3's methods."""
    from botocore import xform_name
    from botocore.session import Session

    models = {name: Session().get_service_model(name) for name in services}
    return {name: {xform_name(each): each for each in model.operation_names} for name, model in models.items()}


def test_whatever_the_product_asks_aws_for_is_allowed() -> None:
    known = operations(set().union(*(services_of(file) for file in PRODUCT)))
    asked: dict[str, set[str]] = defaultdict(set)
    for file in PRODUCT:
        here = services_of(file)
        for name in {name for name, _ in calls_of(file)} & set(OF_PROVIDER):
            asked[OF_PROVIDER[name]].add(str(file.relative_to(PROJECT_ROOT)))
        # A method of a client; or a paginator, or a URL that is signed, by the method's name.
        for method in {text for name, texts in calls_of(file) for text in (name, *texts) if "_" in text}:
            having = {name for name, methods in known.items() if method in methods}
            for name in having & here or having:
                action = f"{PREFIXES.get(name, name)}:{known[name][method]}"
                asked[ACTIONS.get(action, action)].add(str(file.relative_to(PROJECT_ROOT)))

    # What the look has to see: a call, a paginator, a URL that is signed, a client that is handed over, a provider.
    seen = {"logs:GetLogEvents", "logs:DescribeLogGroups", "s3:PutObject", "cloudformation:DescribeStacks"}
    assert {*seen, "sns:Publish"} <= set(asked)
    actions = [each["Action"] for each in json.loads(POLICY.read_text(encoding="utf-8"))["Statement"]]
    allows = [one for each in actions for one in ([each] if isinstance(each, str) else each)]
    refused = [action for action in asked if not any(fnmatchcase(action, one) for one in allows)]
    assert {action: sorted(asked[action]) for action in refused} == {}

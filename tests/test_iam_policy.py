"""The policy of docs/iam-policy.json against the names that the pinned ParallelCluster gives to what it makes."""

from __future__ import annotations

import json
import os
import subprocess
from fnmatch import fnmatchcase
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

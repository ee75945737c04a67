"""Small things that AWS does and moto does otherwise, each met by the unmodified `pcluster` command."""

from __future__ import annotations

import base64
import hashlib
import threading
import uuid
from typing import Any
from unittest import mock

from moto.core.responses import BaseResponse
from moto.ec2.models.elastic_block_store import Volume
from moto.ec2.responses import EC2Response
from moto.fsx.models import FileSystem
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.logs.models import LogGroup, LogsBackend, logs_backends
from moto.moto_api._internal import mock_random
from moto.route53.models import FakeZone, route53_backends
from moto.s3.exceptions import S3ClientError
from moto.s3.responses import S3Response

from local_aws.patching import add, replace


def install() -> None:
    """Repair moto in place."""
    _evaluate_bucket_policy_conditions()
    _export_logs_under_the_task_id()
    _make_private_zones()
    _delete_hosted_zones()
    _reuse_retained_log_groups()
    _tell_the_life_cycle_of_file_systems()
    _describe_placement_groups()
    _delete_volumes()
    _write_conditionally_one_at_a_time()
    _verify_checksums()
    _write_each_answer_by_itself()


def _evaluate_bucket_policy_conditions() -> None:
    """Alone, moto ignores conditions, so ParallelCluster's "deny unless TLS" would deny everything here."""
    original = IAMPolicyStatement.is_action_permitted

    def is_action_permitted(
        self: Any, action: str, resource: str = "*", principal: Any = None, incoming: Any = None
    ) -> Any:
        statement = self._statement
        if statement.get("Resource") and principal is None:
            addressee = statement.get("Principal")
            if isinstance(addressee, dict) and "AWS" not in addressee:
                return PermissionResult.NEUTRAL
            if ((statement.get("Condition") or {}).get("Bool") or {}).get("aws:SecureTransport") == "false":
                return PermissionResult.NEUTRAL
        return original(self, action, resource, principal, incoming)

    replace(IAMPolicyStatement, "is_action_permitted", is_action_permitted)


def _export_logs_under_the_task_id() -> None:
    """CloudWatch writes `<prefix>/<task id>/<stream>/`; moto writes another random id for each stream."""
    original = LogsBackend.create_export_task

    def create_export_task(self: Any, *args: Any, **kwargs: Any) -> Any:
        task_id = uuid.uuid4()
        with mock.patch.object(mock_random, "uuid4", return_value=task_id):
            return original(self, *args, **kwargs)

    replace(LogsBackend, "create_export_task", create_export_task)


def _make_private_zones() -> None:
    """The stack's zone is that of a VPC: moto makes a public one."""

    def create(
        _: type, /, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> FakeZone:
        vpcs = cloudformation_json["Properties"].get("VPCs") or [{}]
        return route53_backends[account_id]["aws"].create_hosted_zone(
            resource_name,
            private_zone=bool(vpcs[0]),
            vpcid=vpcs[0].get("VPCId"),
            vpcregion=vpcs[0].get("VPCRegion"),
        )

    replace(FakeZone, "create_from_cloudformation_json", classmethod(create))


def _delete_hosted_zones() -> None:
    """Deleting the stack's private zone: moto does nothing."""

    def delete(self: Any, account: str, region: str) -> None:
        route53_backends[account]["aws"].zones.pop(self.id.replace("/hostedzone/", ""), None)

    add(FakeZone, "delete", delete)


def _reuse_retained_log_groups() -> None:
    """A cluster's log group outlives it and is named by the minute, in which a local cluster may have come and gone."""
    original = LogGroup.create_from_cloudformation_json

    def create(name: str, document: Any, account_id: str, region_name: str, **kwargs: Any) -> Any:
        existing = logs_backends[account_id][region_name].groups.get(name)
        return existing or original(name, document, account_id, region_name, **kwargs)

    replace(LogGroup, "create_from_cloudformation_json", staticmethod(create))


def _tell_the_life_cycle_of_file_systems() -> None:
    """A file system of FSx says in which state it is; moto's leave that out."""
    original = FileSystem.to_dict

    def to_dict(self: Any) -> Any:
        return {**original(self), "Lifecycle": "AVAILABLE"}

    replace(FileSystem, "to_dict", to_dict)


def _describe_placement_groups() -> None:
    """Moto knows no placement groups and answers with a server error; there are none, so the list is empty."""

    def describe_placement_groups(self: Any) -> str:
        return "<DescribePlacementGroupsResponse><placementGroupSet/></DescribePlacementGroupsResponse>"

    add(EC2Response, "describe_placement_groups", describe_placement_groups)


def _delete_volumes() -> None:
    """Deleting a stack's own volume, the shared storage of a cluster without FSx: moto leaves it there."""

    def delete(self: Any, account: str, region: str) -> None:
        self.ec2_backend.volumes.pop(self.id, None)

    add(Volume, "delete", delete)


def _write_conditionally_one_at_a_time() -> None:
    """S3 looks at `If-Match` and writes in one step; moto's threads can all look before one of them writes."""
    original = S3Response.put_object
    lock = threading.Lock()

    def put_object(self: Any) -> Any:
        if "If-Match" in self.headers or "If-None-Match" in self.headers:
            with lock:
                return original(self)
        return original(self)

    replace(S3Response, "put_object", put_object)


def _verify_checksums() -> None:
    """S3 refuses bytes that do not have the SHA-256 that they were sent with; moto keeps them, and the checksum."""
    original = S3Response._get_checksum

    def get_checksum(self: Any, response_headers: dict[str, Any]) -> Any:
        told = self.headers.get("x-amz-checksum-sha256")
        if told and base64.b64encode(hashlib.sha256(self.body or b"").digest()).decode() != told:
            raise S3ClientError("BadDigest", "The SHA256 you specified did not match the calculated checksum.")
        return original(self, response_headers)

    replace(S3Response, "_get_checksum", get_checksum)


def _write_each_answer_by_itself() -> None:
    """Some calls say how their answer is written, and moto notes it for all answers of the service.

    One that another thread was just writing became a server error then.
    """
    original = BaseResponse.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        self.RESPONSE_KEY_PATH_TO_TRANSFORMER = dict(self.RESPONSE_KEY_PATH_TO_TRANSFORMER)

    replace(BaseResponse, "__init__", init)

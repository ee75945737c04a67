"""The CloudFormation resource types that ParallelCluster's template needs and moto does not have.

moto finds a type by asking every direct subclass of `CloudFormationModel` for its name, so defining a class here is
enough.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.ec2.exceptions import InvalidPermissionDuplicateError, InvalidPermissionNotFoundError
from moto.ec2.models import ec2_backends
from moto.fsx.models import fsx_backends
from moto.logs.models import logs_backends
from moto.s3.models import s3_backends
from typing_extensions import override

Properties = dict[str, Any]


class Resource:
    """A resource made from its properties. `stack_id` names the stack that it belongs to."""

    type_name: ClassVar[str] = ""
    name_property: ClassVar[str] = ""

    def __init__(self, resource_id: str, properties: Properties, account: str, region: str, stack_id: str) -> None:
        self.resource_id = resource_id
        self.properties = properties
        self.account = account
        self.region = region
        self.stack_id = stack_id
        self.create()

    def create(self) -> None:
        """Make what the resource stands for."""

    def delete(self, account: str, region: str) -> None:
        """Unmake it."""

    @property
    def physical_resource_id(self) -> str:
        """The name or id that CloudFormation shows."""
        return self.resource_id

    @classmethod
    def cloudformation_type(cls) -> str:
        """The type's name in a template."""
        return cls.type_name

    @classmethod
    def cloudformation_name_type(cls) -> str:
        """The property that names the resource; empty where CloudFormation invents a name."""
        return cls.name_property

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Moto asks before it evaluates a template's outputs."""
        return True

    def get_cfn_attribute(self, attribute_name: str) -> Any:
        """The value of `Fn::GetAtt`."""
        raise UnformattedGetAttTemplateException()

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> Resource:
        """Make the resource from its part of the template, whose references are resolved."""
        return cls(resource_name, cloudformation_json["Properties"], account_id, region_name, kwargs["StackId"])

    @classmethod
    def update_from_cloudformation_json(
        cls, original_resource: Any, new_resource_name: str, cloudformation_json: Any, account_id: str, region_name: str
    ) -> Any:
        """Give an existing resource its changed properties."""
        original_resource.update(cloudformation_json["Properties"])
        return original_resource

    def update(self, properties: Properties) -> None:
        """Take over changed properties: most types of the template have nothing else to do."""
        self.properties = properties

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str
    ) -> None:
        """Nothing: moto asks the instance (`delete`) first; it never comes here."""


class Alarm(Resource, CloudFormationModel):
    """A metric alarm."""

    type_name = "AWS::CloudWatch::Alarm"
    name_property = "AlarmName"

    @override
    def create(self) -> None:
        p = self.properties
        backend: Any = cloudwatch_backends[self.account][self.region]
        self.alarm = backend.put_metric_alarm(
            name=self.resource_id,
            namespace=p.get("Namespace"),
            metric_name=p.get("MetricName"),
            comparison_operator=p["ComparisonOperator"],
            evaluation_periods=p["EvaluationPeriods"],
            period=p.get("Period"),
            threshold=p.get("Threshold"),
            statistic=p.get("Statistic"),
            description=p.get("AlarmDescription"),
            dimensions=[{"Name": d["Name"], "Value": d["Value"]} for d in p.get("Dimensions") or []],
            alarm_actions=p.get("AlarmActions", []),
            datapoints_to_alarm=p.get("DatapointsToAlarm"),
            treat_missing_data=p.get("TreatMissingData"),
        )
        self.alarm.state_value = "INSUFFICIENT_DATA"

    @override
    def update(self, properties: Properties) -> None:
        super().update(properties)
        self.create()

    @override
    def get_cfn_attribute(self, attribute_name: str) -> Any:
        if attribute_name == "Arn":
            return self.alarm.alarm_arn
        return super().get_cfn_attribute(attribute_name)

    @override
    def delete(self, account: str, region: str) -> None:
        cloudwatch_backends[account][region].delete_alarms([self.resource_id])


class CompositeAlarm(Alarm, CloudFormationModel):
    """An alarm over alarms."""

    type_name = "AWS::CloudWatch::CompositeAlarm"

    @override
    def create(self) -> None:
        backend: Any = cloudwatch_backends[self.account][self.region]
        self.alarm = backend.put_metric_alarm(
            name=self.resource_id,
            namespace=None,
            metric_name=None,
            comparison_operator=None,
            evaluation_periods=None,
            period=None,
            threshold=None,
            statistic=None,
            description=self.properties.get("AlarmDescription"),
            dimensions=[],
            alarm_actions=self.properties.get("AlarmActions", []),
            rule=self.properties["AlarmRule"],
        )


class SecurityGroupEgress(Resource, CloudFormationModel):
    """An outbound rule of a security group."""

    type_name = "AWS::EC2::SecurityGroupEgress"

    def _rule(self) -> dict[str, Any]:
        p = self.properties
        group = p.get("DestinationSecurityGroupId")
        return {
            "group_name_or_id": p["GroupId"],
            "ip_protocol": p["IpProtocol"],
            "from_port": p.get("FromPort"),
            "to_port": p.get("ToPort"),
            "ip_ranges": [{"CidrIp": p["CidrIp"]}] if "CidrIp" in p else [],
            "source_groups": [{"GroupId": group}] if group else [],
        }

    @override
    def create(self) -> None:
        try:
            ec2_backends[self.account][self.region].authorize_security_group_egress(**self._rule())
        except InvalidPermissionDuplicateError:
            return  # moto's groups start with a rule that allows everything

    @override
    def delete(self, account: str, region: str) -> None:
        try:
            ec2_backends[account][region].revoke_security_group_egress(**self._rule())
        except InvalidPermissionNotFoundError:
            return  # the group's own rule was the same one and went first


class FsxFileSystem(Resource, CloudFormationModel):
    """An FSx file system; its mount directory is a directory of the cluster's machines."""

    type_name = "AWS::FSx::FileSystem"

    @override
    def create(self) -> None:
        p = self.properties
        lustre = {"MountName": uuid.uuid4().hex[:8], **(p.get("LustreConfiguration") or {})}
        backend: Any = fsx_backends[self.account][self.region]
        self.file_system = backend.create_file_system(
            client_request_token=None,
            file_system_type=p["FileSystemType"],
            storage_capacity=p.get("StorageCapacity"),
            storage_type=p.get("StorageType", "SSD"),
            subnet_ids=p["SubnetIds"],
            security_group_ids=p.get("SecurityGroupIds", []),
            tags=p.get("Tags", []),
            kms_key_id=None,
            windows_configuration=None,
            lustre_configuration=lustre,
            ontap_configuration=None,
            file_system_type_version=p.get("FileSystemTypeVersion"),
            open_zfs_configuration=None,
        )
        self.resource_id = self.file_system.file_system_id

    @override
    def get_cfn_attribute(self, attribute_name: str) -> Any:
        attributes = {
            "LustreMountName": self.file_system.lustre_configuration["MountName"],
            "DNSName": self.file_system.dns_name,
            "ResourceARN": self.file_system.resource_arn,
        }
        return attributes[attribute_name]

    @override
    def delete(self, account: str, region: str) -> None:
        fsx_backends[account][region].file_systems.pop(self.resource_id, None)


class MetricFilter(Resource, CloudFormationModel):
    """A filter that turns log lines into metrics."""

    type_name = "AWS::Logs::MetricFilter"
    name_property = "FilterName"

    @override
    def create(self) -> None:
        backend: Any = logs_backends[self.account][self.region]
        backend.put_metric_filter(
            self.resource_id,
            self.properties["FilterPattern"],
            self.properties["LogGroupName"],
            [_transformation(item) for item in self.properties["MetricTransformations"]],
        )

    @override
    def delete(self, account: str, region: str) -> None:
        logs_backends[account][region].delete_metric_filter(self.resource_id, self.properties["LogGroupName"])


def _transformation(item: dict[str, Any]) -> dict[str, Any]:
    """CloudFormation's spelling of a metric transformation in the API's."""
    dimensions = {d["Key"]: d["Value"] for d in item.get("Dimensions", [])}
    renamed = {key[0].lower() + key[1:]: value for key, value in item.items() if key != "Dimensions"}
    return renamed | ({"dimensions": dimensions} if dimensions else {})


class CustomResource(Resource, CloudFormationModel):
    """ParallelCluster's clean-up Lambda function: when deleted, it removes what the template cannot name."""

    type_name = "AWS::CloudFormation::CustomResource"

    @override
    def delete(self, account: str, region: str) -> None:
        action = self.properties.get("Action")
        if action == "DELETE_S3_ARTIFACTS":
            self._delete_artifacts(account)
        elif action == "TERMINATE_EC2_INSTANCES":
            self._terminate_instances(account, region)

    def _delete_artifacts(self, account: str) -> None:
        bucket = s3_backends[account]["aws"].buckets.get(self.properties["ResourcesS3Bucket"])
        folder = self.properties["ArtifactS3RootDirectory"] + "/"
        if bucket is not None:
            for key in [key for key in bucket.keys if key.startswith(folder)]:
                bucket.keys.pop(key)

    def _terminate_instances(self, account: str, region: str) -> None:
        for instance in ec2_backends[account][region].all_instances():
            tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
            ours = tags.get("parallelcluster:cluster-name") == self.properties["StackName"]
            if ours and tags.get("parallelcluster:node-type") == "Compute" and instance.state != "terminated":
                instance.terminate()


class WaitConditionHandle(Resource, CloudFormationModel):
    """The URL that the head node reports to."""

    type_name = "AWS::CloudFormation::WaitConditionHandle"

    @override
    def create(self) -> None:
        self.resource_id = f"https://cloudformation-waitcondition-{self.region}.s3.amazonaws.com/{uuid.uuid4()}"


class WaitCondition(Resource, CloudFormationModel):
    """Completes when the head node has reported; the stack's creation asks the region about it (`stacks.py`)."""

    type_name = "AWS::CloudFormation::WaitCondition"

"""EC2 as ParallelCluster uses it: launch templates in stacks, compute instances, console output."""

from __future__ import annotations

import ipaddress
import threading
from typing import Any, Protocol

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse

from local_aws.cluster import LaunchError
from local_aws.cluster_config import Node
from local_aws.faults import Faults
from local_aws.network import Slot
from local_aws.patching import replace

RESERVED_ADDRESSES = 4  # AWS keeps the first four of a subnet
ROOT_VOLUME_GIB = 45
_addresses = threading.Lock()
"""Held while an address is chosen and taken."""


class InstanceObserver(Protocol):
    """Who wants to know about instances."""

    def head_node_launched(self, instance: Any, stack_id: str) -> None:
        """A stack has launched its head node."""
        ...

    def instance_terminated(self, instance_id: str) -> None:
        """An instance was terminated, by whomever."""
        ...

    def console_output(self, instance_id: str) -> str:
        """What the instance has printed on its console."""
        ...


class ComputeFleet:
    """Launches and terminates compute instances in one account and region."""

    def __init__(self, account: str, region: str, faults: Faults) -> None:
        self._backend = ec2_backends[account][region]
        self._region = region
        self._faults = faults

    def launch(self, cluster: str, node: Node) -> tuple[str, str]:
        """Run one instance with ParallelCluster's and the node's tags; raises `LaunchError` when a fault says so."""
        code = self._faults.launch_failure(node.name, node.compute_resource, node.queue)
        if code is not None:
            raise LaunchError(
                code, f"We currently do not have sufficient {node.instance_type} capacity (a fault that was ordered)."
            )
        tags = {
            **dict(node.tags),
            "Name": "Compute",
            "parallelcluster:cluster-name": cluster,
            "parallelcluster:node-type": "Compute",
            "parallelcluster:queue-name": node.queue,
            "parallelcluster:compute-resource-name": node.compute_resource,
        }
        instance = run_instance(self._backend, self._region, node.instance_type, node.subnet_id, tags)
        return instance.id, instance.private_ip

    def terminate(self, instance_id: str) -> None:
        """Terminate the instance unless it is terminated already."""
        instance = self._backend.get_instance(instance_id)
        if instance.state != "terminated":
            instance.terminate()


def run_instance(backend: Any, region: str, instance_type: str, subnet_id: str, tags: dict[str, str]) -> Any:
    """Run one instance of the official image in `subnet_id`; its volume gets the same tags."""
    images = backend.describe_images()
    image = next(image for image in images if "amzn2023" in image.name and image.architecture == "x86_64")
    with _addresses:
        interface = {
            "DeviceIndex": 0,
            "SubnetId": subnet_id,
            "PrivateIpAddress": free_address(backend, subnet_id),
            "DeleteOnTermination": True,
        }
        reservation = backend.run_instances(
            image.id,
            1,
            None,
            [],
            instance_type=instance_type,
            is_instance_type_default=False,
            region_name=region,
            nics=[interface],
            tags={"instance": tags, "volume": {key: value for key, value in tags.items() if key != "Name"}},
        )
    return reservation.instances[0]


def instance_types() -> dict[str, Any]:
    """EC2's description of every instance type, by name."""
    return dict(INSTANCE_TYPES)


def install(observer: InstanceObserver, slot: Slot, faults: Faults) -> None:
    """Teach moto's EC2 what it lacks, and tell `observer` what happens to instances."""
    _create_instances_from_launch_templates(observer, slot, faults)
    _give_interfaces_an_address_of_their_own()
    _report_terminations(observer)
    _print_consoles(observer)
    _accept_block_device_mappings()


def _create_instances_from_launch_templates(observer: InstanceObserver, slot: Slot, faults: Faults) -> None:
    original = Instance.create_from_cloudformation_json

    def create(name: str, document: Any, account_id: str, region_name: str, **kwargs: Any) -> Any:
        properties = document["Properties"]
        if "LaunchTemplate" not in properties or "ImageId" in properties:
            return original(name, document, account_id, region_name, **kwargs)
        instance = _launch_from_template(properties, account_id, region_name, slot, faults)
        if dict(_tags(instance)).get("parallelcluster:node-type") == "HeadNode":
            observer.head_node_launched(instance, kwargs["StackId"])
        return instance

    replace(Instance, "create_from_cloudformation_json", staticmethod(create))


def refusal(code: str, instance_type: str) -> str:
    """What CloudFormation passes on of EC2's refusal to launch an instance: the sentence, without the code."""
    sentences = {
        "VcpuLimitExceeded": "You have requested more vCPU capacity than your current vCPU limit of 32 allows.",
        "UnauthorizedOperation": "You are not authorized to perform this operation.",
        "InsufficientFreeAddressesInSubnet": "The specified subnet does not have enough free addresses to satisfy the "
        "request.",
    }
    capacity = (
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested "
        "(us-east-1a). Our system will be working on provisioning additional capacity."
    )
    return f"{sentences.get(code, capacity)} (Service: Ec2, Status Code: 500, Request ID: a-fault-that-was-ordered)"


def _launch_from_template(properties: dict[str, Any], account: str, region: str, slot: Slot, faults: Faults) -> Any:
    backend = ec2_backends[account][region]
    template = properties["LaunchTemplate"]
    data = backend.get_launch_template(template["LaunchTemplateId"]).get_version(template["Version"]).data
    volumes = [mapping for mapping in data.get("BlockDeviceMappings", []) if "Ebs" in mapping]
    for volume in volumes:
        volume["Ebs"].setdefault("VolumeSize", ROOT_VOLUME_GIB)
    interfaces = [
        {**interface, "DeviceIndex": interface.get("DeviceIndex", 0)} for interface in data["NetworkInterfaces"]
    ]
    code = faults.head_node_failure(data["InstanceType"], _subnet_of(backend, interfaces[0]))
    if code is not None:
        raise LaunchError(code, refusal(code, data["InstanceType"]))
    own = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
    propagated = own if properties.get("PropagateTagsToVolumeOnCreation") else {}
    tags = {"instance": _specified(data, "instance") | own, "volume": _specified(data, "volume") | propagated}
    instance: Any = backend.run_instances(
        data["ImageId"],
        1,
        data.get("UserData"),
        [],
        instance_type=data["InstanceType"],
        is_instance_type_default=False,
        region_name=region,
        key_name=data.get("KeyName"),
        nics=interfaces,
        block_device_mappings=volumes,
        ebs_optimized=data.get("EbsOptimized", False),
        metadata_options=data.get("MetadataOptions", {}),
        tags=tags,
    ).instances[0]
    subnet = instance.nics[0].subnet
    if str(subnet.map_public_ip_on_launch).lower() == "true":
        instance.nics[0].public_ip = slot.public_ip(instance.private_ip)
    profile = (data.get("IamInstanceProfile") or {}).get("Name")
    if profile:
        backend.associate_iam_instance_profile(instance_id=instance.id, iam_instance_profile_name=profile)
    return instance


def _subnet_of(backend: Any, interface: dict[str, Any]) -> str:
    if "SubnetId" in interface:
        return str(interface["SubnetId"])
    return str(backend.enis[interface["NetworkInterfaceId"]].subnet.id)


def _specified(data: dict[str, Any], resource_type: str) -> dict[str, str]:
    """The tags that a launch template gives to what it launches."""
    return {
        tag["Key"]: tag["Value"]
        for specification in data.get("TagSpecifications", [])
        if specification["ResourceType"] == resource_type
        for tag in specification["Tags"]
    }


def _tags(instance: Any) -> list[tuple[str, str]]:
    return [(tag["key"], tag["value"]) for tag in instance.get_tags()]


def _give_interfaces_an_address_of_their_own() -> None:
    """Alone, moto draws an interface's address at random; here it is a real one, and must be nobody else's."""
    original = NetworkInterface.create_from_cloudformation_json

    def create(name: str, document: Any, account_id: str, region_name: str, **kwargs: Any) -> Any:
        properties = document["Properties"]
        if "PrivateIpAddress" in properties or "PrivateIpAddresses" in properties:
            return original(name, document, account_id, region_name, **kwargs)
        with _addresses:
            address = free_address(ec2_backends[account_id][region_name], properties["SubnetId"])
            changed = {**document, "Properties": {**properties, "PrivateIpAddress": address}}
            return original(name, changed, account_id, region_name, **kwargs)

    def delete(self: NetworkInterface, account: str | None = None, region: str | None = None) -> None:
        self.ec2_backend.enis.pop(self.id, None)

    replace(NetworkInterface, "create_from_cloudformation_json", staticmethod(create))
    replace(NetworkInterface, "delete", delete)


def free_address(backend: Any, subnet_id: str) -> str:
    """The first address of the subnet that no interface has, and no instance had."""
    subnet = backend.get_subnet(subnet_id)
    taken = {interface.private_ip_address for interface in backend.enis.values()} | set(subnet._subnet_ips)
    addresses = ipaddress.ip_network(subnet.cidr_block)
    hosts = (str(address) for number, address in enumerate(addresses) if number >= RESERVED_ADDRESSES)
    return next(address for address in hosts if address not in taken)


def _report_terminations(observer: InstanceObserver) -> None:
    original = Instance.terminate

    def terminate(self: Instance) -> Any:
        previous = original(self)
        observer.instance_terminated(self.id)
        return previous

    replace(Instance, "terminate", terminate)


def _print_consoles(observer: InstanceObserver) -> None:
    def get_console_output(self: Any) -> ActionResult:
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        text = observer.console_output(instance.id)
        output = Base64EncodedString.from_raw_string(text)
        return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": output})

    replace(General, "get_console_output", get_console_output)


def _accept_block_device_mappings() -> None:
    """Ephemeral volumes, and volumes whose size is the image's, are valid on EC2 and refused by moto."""
    original = InstanceResponse._validate_block_device_mapping

    def validate(mapping: dict[str, Any]) -> None:
        volume = mapping.get("Ebs")
        ephemeral = "VirtualName" in mapping and volume is None
        unsized = volume is not None and not volume.get("VolumeSize") and not volume.get("SnapshotId")
        if not ephemeral and not unsized:
            original(mapping)

    replace(InstanceResponse, "_validate_block_device_mapping", staticmethod(validate))

"""The official ParallelCluster images, as EC2's DescribeImages lists them for the pinned version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

PARALLELCLUSTER_VERSION = "3.16.1"
OWNER = "247102896272"
IMAGE_NAMES = {
    "alinux2023": "amzn2023-hvm",
    "ubuntu2204": "ubuntu-2204-lts-hvm",
    "ubuntu2404": "ubuntu-2404-lts-hvm",
    "rhel8": "rhel8-hvm",
    "rhel9": "rhel9-hvm",
}
ARCHITECTURES = ("x86_64", "arm64")


def official_image(operating_system: str, architecture: str) -> dict[str, Any]:
    """One image in the format of moto's `MOTO_AMIS_PATH`."""
    version, image = PARALLELCLUSTER_VERSION, IMAGE_NAMES[operating_system]
    name = f"aws-parallelcluster-{version}-{image}-{architecture}-202609040000 2026-09-04T00-00-00.000Z"
    return {
        "ami_id": "ami-" + hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:17],
        "name": name,
        "description": f"AWS ParallelCluster AMI for {operating_system}",
        "owner_id": OWNER,
        "public": True,
        "virtualization_type": "hvm",
        "architecture": architecture,
        "state": "available",
        "creation_date": "2026-09-04T00:00:00.000Z",
        "platform": None,
        "image_type": "machine",
        "hypervisor": "xen",
        "root_device_name": "/dev/xvda" if operating_system == "alinux2023" else "/dev/sda1",
        "root_device_type": "ebs",
        "sriov": "simple",
        "tags": {
            "parallelcluster:version": version,
            "parallelcluster:os": operating_system,
            "parallelcluster:build_status": "available",
        },
    }


def write_images(path: Path) -> None:
    """Write all official images to `path`."""
    images = [official_image(system, architecture) for system in IMAGE_NAMES for architecture in ARCHITECTURES]
    path.write_text(json.dumps(images))

"""The region's process: moto's endpoint, the control interface beside it, and the supervisor of all machines."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from local_aws.amis import write_images
from local_aws.errors import RegionError
from local_aws.machine import check_namespaces
from local_aws.network import Slot, free_port, hold_slot, is_free
from local_aws.processes import start_time
from local_aws.seed import make_key, seed

LOG = logging.getLogger(__name__)
REGION = "us-east-1"
ACCOUNT = "123456789012"
# No ordinary word: programs that mask secrets in their logs would mask it everywhere.
ACCESS_KEY = {"access_key_id": "LOCALREGIONACCESSKEY", "secret_access_key": "not-a-secret-of-aws"}


def serve(directory: Path, port: int | None) -> None:
    """Run the region in `directory` until SIGTERM or SIGINT. Raises `RegionError` when it runs already."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RegionError(f"The region in {directory} is running already.") from error
        check_namespaces()
        clean(directory)
        slot, holder = hold_slot(directory)
        with holder:
            _serve(directory, slot, port or _choose_port(slot))


def clean(directory: Path) -> None:
    """Remove what an earlier process left: its facts and its clusters' directories (their machines died with it)."""
    (directory / "region.json").unlink(missing_ok=True)
    shutil.rmtree(directory / "clusters", ignore_errors=True)


def _choose_port(slot: Slot) -> int:
    return slot.endpoint_port if is_free(slot.endpoint_port) else free_port()


def _serve(directory: Path, slot: Slot, port: int) -> None:
    write_images(directory / "amis.json")
    _set_environment(directory, port)
    from local_aws.endpoint import Endpoint  # moto reads the environment when it is imported

    endpoint_url = f"http://127.0.0.1:{port}"
    endpoint = Endpoint(directory, slot, ACCOUNT, REGION, port)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    endpoint.start()
    try:
        account = seed(_session(), endpoint_url, slot, make_key(directory))
        endpoint.control.subnet_ids = (account.head_node_subnet_id, account.compute_subnet_id)
        facts = {
            "endpoint_url": endpoint_url,
            "region": REGION,
            "account_id": ACCOUNT,
            **ACCESS_KEY,
            **asdict(account),
            "ssh_user": "ec2-user",
            "ssh_port": slot.ssh_port,
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
        }
        _publish(directory / "region.json", facts)
        LOG.info("the region answers at %s", endpoint_url)
        done.wait()
    finally:
        endpoint.stop()
        clean(directory)


def _publish(path: Path, facts: dict[str, Any]) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(facts, indent=1) + "\n")
    fresh.rename(path)


def _set_environment(directory: Path, port: int) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID=ACCESS_KEY["access_key_id"],
        AWS_SECRET_ACCESS_KEY=ACCESS_KEY["secret_access_key"],
        AWS_EC2_METADATA_DISABLED="true",
        MOTO_ACCOUNT_ID=ACCOUNT,
        MOTO_AMIS_PATH=str(directory / "amis.json"),
        MOTO_IAM_LOAD_MANAGED_POLICIES="true",
        MOTO_PORT=str(port),
    )


def _session() -> Any:
    import boto3

    return boto3.Session(region_name=REGION)

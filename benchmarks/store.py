"""The S3 that everybody sends to: SeaweedFS, which verifies the SHA-256 of what arrives, as S3 does; and the peers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.jobs import ROOT
from workshop import LOCAL, setup

LOCK = ROOT / "benchmarks" / "requirements-export.lock"
TOOLS = LOCAL / "venvs" / "bench-export"
#: Seconds for the server to come up.
PATIENCE = 60
#: Its listeners; each has a second one for gRPC.
PORTS = ("master", "volume", "filer", "s3")
ACCESS_KEY, SECRET_KEY, REGION = "benchmark", "benchmark-only", "us-east-1"  # pragma: allowlist secret


def install_tools() -> None:
    """Install the server and the peers into an environment of their own, exactly as the lock says."""
    if setup.is_stamped(TOOLS, LOCK):
        return
    setup.run([str(setup.UV), "venv", "--no-project", "--clear", "--python", sys.executable, str(TOOLS)], "bench")
    pip = [str(setup.UV), "pip", "sync", "--require-hashes", "--python", str(TOOLS / "bin" / "python"), str(LOCK)]
    setup.run(pip, "bench", check=True, **setup.uv_environment(setup.pip_settings(), os.environ))
    setup.stamp(TOOLS, LOCK)


def program(name: str) -> Path:
    """Return where a program of that environment is: itself, and not what Python starts it with."""
    wrapped = next(TOOLS.glob(f"lib/python*/site-packages/{name}/bin/{name}"), None)
    return wrapped or TOOLS / "bin" / name


@dataclass(frozen=True)
class Store:
    """A running server."""

    url: str
    client: Any

    def environment(self) -> dict[str, str]:
        """Return our environment with the variables by which every AWS client finds the server, and no other ones."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return ours | {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
        }

    def connection(self) -> str:
        """Return Airflow's connection to it."""
        extra = {"endpoint_url": self.url, "region_name": REGION}
        return json.dumps({"conn_type": "aws", "login": ACCESS_KEY, "password": SECRET_KEY, "extra": extra})

    @contextlib.contextmanager
    def bucket(self, name: str) -> Iterator[str]:
        """Make a bucket that has taken an object already, and remove it with all that is in it."""
        self.client.create_bucket(Bucket=name)
        self.client.put_object(Bucket=name, Key="warm", Body=b"warm")
        try:
            yield name
        finally:
            self.client.delete_bucket(Bucket=name)  # with all that is in it: the server's default, unlike S3's

    def holds(self, bucket: str, prefix: str) -> tuple[int, int]:
        """Return the number of objects below a prefix, and their bytes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        sizes = [item["Size"] for page in pages for item in page.get("Contents", [])]
        return len(sizes), sum(sizes)

    def verifies(self, bucket: str) -> bool:
        """Say whether it refuses bytes that are not what their SHA-256 says, at a signed URL."""
        checksum = base64.b64encode(hashlib.sha256(b"right").digest()).decode()
        url = self.client.generate_presigned_url(
            "put_object",
            Params={"Bucket": bucket, "Key": "damaged", "ChecksumSHA256": checksum, "ChecksumAlgorithm": "SHA256"},
        )
        headers = {"x-amz-checksum-sha256": checksum, "x-amz-sdk-checksum-algorithm": "SHA256"}
        with closing(http.client.HTTPConnection(self.url.removeprefix("http://"))) as connection:
            connection.request("PUT", url.removeprefix(self.url), body=b"wrong", headers=headers)
            return connection.getresponse().status == 400


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Store]:
    """Start the server with its data in `folder`, and end it."""
    import boto3
    from botocore.config import Config

    install_tools()
    folder.mkdir(parents=True)
    ports = dict(zip([*PORTS, *(f"{name}.grpc" for name in PORTS)], free_ports(2 * len(PORTS)), strict=True))
    (folder / "s3.json").write_text(json.dumps(identities()))
    command = [
        *(str(program("weed")), "-logtostderr", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-s3", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-volume.max=1000", "-master.volumeSizeLimitMB=1024"),
        *(
            f"-{name}.port.grpc={ports[f'{name}.grpc']}" if is_grpc else f"-{name}.port={ports[name]}"
            for name in PORTS
            for is_grpc in (False, True)
        ),
    ]
    make_client: Any = boto3.client
    url = f"http://127.0.0.1:{ports['s3']}"
    client = make_client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as server:
        try:
            wait_until_it_answers(client, server, folder / "log")
            yield Store(url, client)
        finally:
            server.kill()  # it would take half a minute to say good-bye to nobody; what it holds goes as well


def identities() -> dict[str, Any]:
    """Return who may do what, as SeaweedFS reads it."""
    keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    return {"identities": [{"name": "benchmark", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}]}


def free_ports(number: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until_it_answers(client: Any, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return once a bucket can be made and written. Raises RuntimeError with the end of the log."""
    from botocore.exceptions import BotoCoreError, ClientError

    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit and server.poll() is None:
        try:
            client.create_bucket(Bucket="first")
            client.put_object(Bucket="first", Key="first", Body=b"first")
        except (BotoCoreError, ClientError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the S3 server does not answer: {log.read_text(errors='replace')[-2000:]}")

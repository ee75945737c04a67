"""What remains of a demo: `report.json`, receipt and pictures, taken from Airflow's XComs and the region's S3."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from workshop.region import Region
from workshop.rest import TaskProgress

PICTURE_SUFFIXES = (".png", ".svg", ".jpg")


@dataclass(frozen=True)
class Saved:
    """What an export task left in S3: the objects of its receipt."""

    receipt_uri: str
    page_uri: str
    objects: tuple[str, ...]
    summary: dict[str, Any]


@dataclass(frozen=True)
class DemoReport:
    """The outcome of one demo."""

    dag_id: str
    run_id: str
    state: str
    tasks: Sequence[TaskProgress]
    results: Saved | None = None
    pictures: Saved | None = None
    leftovers: Sequence[str] = ()
    failures: dict[str, list[str]] = field(default_factory=dict)  # the logs of failed tasks

    @property
    def problems(self) -> list[str]:
        """Why the demo did not succeed; empty when it did."""
        problems = [] if self.state == "success" else [f"the DAG run ended as {self.state}"]
        if self.results is None:
            problems.append("there is no receipt of results")
        elif not self.results.summary["verified"]:
            problems.append("the receipt of the results is not verified")
        return problems + [f"left over: {thing}" for thing in self.leftovers]

    def as_dict(self) -> dict[str, Any]:
        """Return what `report.json` holds."""
        return {
            "dag_run": {"dag_id": self.dag_id, "id": self.run_id, "state": self.state},
            "tasks": [{"task_id": task.task_id, "state": task.state, "seconds": task.seconds} for task in self.tasks],
            "results": list(self.results.objects) if self.results else [],
            "pictures": picture_uris(self.pictures.objects if self.pictures else ()),
            "receipt": self.results.summary | {"uri": self.results.receipt_uri} if self.results else None,
            "leftovers": list(self.leftovers),
        }


def picture_uris(uris: Iterable[str]) -> list[str]:
    """Return those of the objects that a person can look at."""
    return [uri for uri in uris if PurePosixPath(urlsplit(uri).path).suffix.lower() in PICTURE_SUFFIXES]


def read_saved(returned: Any, region: Region) -> Saved | None:
    """Read the receipt that an export task returned the address of; None if it returned nothing."""
    if not returned:
        return None
    receipt = json.loads(fetch(region, returned["receipt_uri"]))
    bucket = urlsplit(returned["receipt_uri"]).netloc
    return Saved(
        receipt_uri=returned["receipt_uri"],
        page_uri=returned["page_uri"],
        objects=tuple(f"s3://{bucket}/{file['key']}" for file in receipt["files"]),
        summary={name: returned[name] for name in ("files", "bytes", "verified")},
    )


def download(region: Region, uris: Iterable[str], directory: Path) -> list[Path]:
    """Copy objects from the region's S3 into a folder, each under its own name."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for uri in uris:
        file = directory / PurePosixPath(urlsplit(uri).path).name
        file.write_bytes(fetch(region, uri))
        files.append(file)
    return files


def fetch(region: Region, uri: str) -> bytes:
    """Read one object, by its s3:// address."""
    where = urlsplit(uri)
    body: bytes = region.client("s3").get_object(Bucket=where.netloc, Key=where.path.lstrip("/"))["Body"].read()
    return body

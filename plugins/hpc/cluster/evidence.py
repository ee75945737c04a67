"""What explains a failed creation, as files in S3: the stack, its log group's end and the head node do not stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hpc.cluster.diagnosis import BOOTSTRAP_LOGS, Evidence
from hpc.errors import HpcError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpc.cluster.stacks import StackEvent

#: The last events of each of the head node's logs that are kept: as many as one answer of CloudWatch Logs holds.
LINES_KEPT = 10_000


def files_of(evidence: Evidence, error: HpcError, configuration: str) -> dict[str, str]:
    """Return the explanation for people and for programs, and the cluster's configuration, by file name."""
    told = {
        "cluster_name": evidence.cluster_name,
        "stack_id": evidence.stack_id,
        "stack_status": evidence.stack_status,
        "error": type(error).__name__,
        "what_to_do": error.remedy,
        "failed_resources": _events(evidence.failures),
        "parallelcluster": list(evidence.said_by_parallelcluster),
        "head_node_log": {"name": evidence.log_name, "last_lines": list(evidence.log_lines)},
        "not_known": list(evidence.unknown),
        "stack_events": _events(evidence.events),
    }
    return {
        "explanation.txt": f"{error}\n",
        "explanation.json": json.dumps(told, indent=2) + "\n",
        "cluster-config.yaml": configuration,
    }


def _events(events: Sequence[StackEvent]) -> list[dict[str, Any]]:
    return [{**asdict(event), "time": event.time.isoformat()} for event in events]


def read_head_node_logs(logs: Any, group: str, streams: Sequence[str]) -> dict[str, str]:
    """Return the ends of the logs of the head node's start, by file name; `logs` is a boto3 client."""
    found = {}
    for stream in streams:
        if stream.rpartition(".")[2] in BOOTSTRAP_LOGS:
            answer = logs.get_log_events(
                logGroupName=group, logStreamName=stream, limit=LINES_KEPT, startFromHead=False
            )
            found[f"{stream}.log"] = "".join(f"{event['message']}\n" for event in answer["events"])
    return found


def save(s3: Any, folder: str, files: Mapping[str, str]) -> None:
    """Write files below an s3:// URI; `s3` is a boto3 client."""
    place = urlsplit(folder)
    for name, text in files.items():
        s3.put_object(
            Bucket=place.netloc,
            Key=f"{place.path.strip('/')}/{name}",
            Body=text.encode(),
            ContentType="application/json" if name.endswith(".json") else "text/plain; charset=utf-8",
        )

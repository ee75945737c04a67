"""Names and tags, computed and never stored: whoever knows the DAG run finds its cluster again, after any crash."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

#: The prefix of our own tags. ParallelCluster's own begin with `parallelcluster:`.
TAG_PREFIX = "airflow-parallelcluster:"
TAG_SIMULATION = f"{TAG_PREFIX}simulation"
TAG_RUN_ID = f"{TAG_PREFIX}run-id"
TAG_OWNER = f"{TAG_PREFIX}owner"
TAG_EXPIRES = f"{TAG_PREFIX}expires"


def cluster_name(dag_id: str, run_id: str) -> str:
    """Return the name of the cluster of a DAG run: readable, unique, and valid for ParallelCluster.

    ParallelCluster allows 60 characters (40 with accounting) of letters, digits and hyphens, beginning with a letter.
    """
    digest = hashlib.sha256(f"{dag_id}\0{run_id}".encode()).hexdigest()[:10]
    stem = "".join(character if character.isascii() and character.isalnum() else "-" for character in dag_id)
    stem = stem.lower().lstrip("-0123456789")[:28].rstrip("-") or "hpc"
    return f"{stem}-{digest}"


def tag_value(text: str) -> str:
    """Return a text as AWS allows it in a tag's value: 256 characters of letters, digits and `_.:/=+-@`."""
    return "".join(character if character.isalnum() or character in " .:/=+@-_" else "_" for character in text)[:256]


def expiry(start: datetime, seconds: float) -> str:
    """Return the UTC moment after which nothing of a run may exist any more, as the value of the tag TAG_EXPIRES."""
    return (start + timedelta(seconds=seconds)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

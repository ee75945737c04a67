"""Names and tags, computed and never stored: whoever knows the DAG run finds its cluster again, after any crash."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

#: The prefix of our own tags. ParallelCluster's own begin with `parallelcluster:`.
TAG_PREFIX = "airflow-parallelcluster:"
TAG_SIMULATION = f"{TAG_PREFIX}simulation"
TAG_RUN_ID = f"{TAG_PREFIX}run-id"
TAG_OWNER = f"{TAG_PREFIX}owner"
TAG_EXPIRES = f"{TAG_PREFIX}expires"
#: What the janitor needs to save the results of a run that Airflow no longer knows: where they are, which they are
#: (globs), and where to (an s3:// URI, or DISCARD).
TAG_DIRECTORY = f"{TAG_PREFIX}directory"
TAG_OUTPUTS = f"{TAG_PREFIX}outputs"
TAG_RESULTS = f"{TAG_PREFIX}results"
DISCARD = "discard"
#: The Airflow connection by which its head node is reached; HEAD_NODE_CONNECTION if there is no such tag.
TAG_SSH = f"{TAG_PREFIX}ssh"
HEAD_NODE_CONNECTION = "hpc_head_node"
#: The URL of the Airflow that made the cluster: another one that finds it cannot know its run.
TAG_AIRFLOW = f"{TAG_PREFIX}airflow"
#: Put on by a person, with any value: the janitor leaves everything alone that bears it.
TAG_KEEP = f"{TAG_PREFIX}keep"
#: On a head node that a run has connected to, and since when: a job may have left results there.
TAG_REACHED = f"{TAG_PREFIX}reached"
#: Characters of a tag's value, as AWS limits it.
LONGEST_TAG = 256
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
#: Which of `cluster.alternatives` a cluster is made of, counted from 1.
TAG_ALTERNATIVE = f"{TAG_PREFIX}alternative"
#: On a cluster that runs share: the name of its pool.
TAG_POOL = f"{TAG_PREFIX}pool"


def cluster_name(dag_id: str, run_id: str) -> str:
    """Return the name of the cluster of a DAG run: readable, unique, and valid for ParallelCluster.

    ParallelCluster allows 60 characters (40 with accounting) of letters, digits and hyphens, beginning with a letter.
    """
    digest = hashlib.sha256(f"{dag_id}\0{run_id}".encode()).hexdigest()[:10]
    stem = "".join(character if character.isascii() and character.isalnum() else "-" for character in dag_id)
    stem = stem.lower().lstrip("-0123456789")[:28].rstrip("-") or "hpc"
    return f"{stem}-{digest}"


def pool_cluster_name(pool: str, generation: int) -> str:
    """Return the name of a pool's cluster. Each cluster of a pool has a name of its own.

    So whoever deletes late, after any stall, deletes the cluster that he meant and never the next one.
    """
    return f"pool-{pool}-{generation}"


def tag_value(text: str) -> str:
    """Return a text as AWS allows it in a tag's value: 256 characters of letters, digits and `_.:/=+-@`."""
    return "".join(character if character.isalnum() or character in " .:/=+@-_" else "_" for character in text)[
        :LONGEST_TAG
    ]


def encode_tag(*texts: str, otherwise: str) -> str:
    """Return texts as the value of one tag, which `decode_tag` reads; `otherwise` when they are too long for it.

    A character that a tag's value may not have is written as quoted-printable text has it: `*` is `=2A`.
    """
    # `quote` never quotes the tilde, which a tag's value may not have.
    value = " ".join(quote(text, safe="/:.-_@+").replace("~", "%7E").replace("%", "=") for text in texts)
    return value if len(value) <= LONGEST_TAG else otherwise


def decode_tag(value: str) -> list[str]:
    """Return the texts of a tag's value that `encode_tag` has written."""
    return [unquote(text.replace("=", "%")) for text in value.split(" ") if text]


def expiry(start: datetime, seconds: float) -> str:
    """Return the UTC moment after which nothing of a run may exist any more, as the value of the tag TAG_EXPIRES."""
    return (start + timedelta(seconds=seconds)).astimezone(UTC).strftime(_MOMENT)


def parse_expiry(value: str) -> datetime | None:
    """Return the moment that a tag TAG_EXPIRES names; None if it names none."""
    try:
        return datetime.strptime(value, _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None

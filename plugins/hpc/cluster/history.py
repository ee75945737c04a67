"""What is worth keeping of a cluster when it is gone: the events of its stack."""

from __future__ import annotations

from hpc.aws_errors import from_botocore
from hpc.cluster.account import Account
from hpc.cluster.diagnosis import read_events


def cluster_history(cluster_name: str, *, aws_conn_id: str | None, region_name: str | None) -> dict[str, str]:
    """Return documents by name: how the stack and those nested in it were made, an event a line, oldest first.

    Raises HpcError, whatever the reason is.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    account = Account(aws_conn_id, region_name or None)
    try:
        events = read_events(account.client("cloudformation"), cluster_name, "CREATE_COMPLETE")
    except (ClientError, BotoCoreError) as error:
        raise from_botocore(error) from error
    lines = [f"{event.time:%Y-%m-%d} {event.line()}\n" for event in sorted(events, key=lambda event: event.time)]
    return {"stack-events.txt": "".join(lines)}

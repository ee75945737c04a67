"""One message to people, through Airflow's notifiers: what happened, what it costs an hour, and where to look.

A message that cannot be sent is an error in the log of the task that it is about, and never more: nothing may keep a
cluster alive because a mail server is down.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc import names
from hpc.cluster.account import Account
from hpc.cluster.leftovers import find_leftovers
from hpc.cluster.pool import PoolStore
from hpc.config import Notify
from hpc.site import site, site_notify

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.notifier import BaseNotifier

log = logging.getLogger(__name__)

#: Characters of a text; a diagnosis may be longer, and is in the task's log.
LONGEST_TEXT = 3_000


@dataclass(frozen=True)
class Message:
    """What is sent. `link` is a URL, or empty."""

    subject: str
    text: str
    link: str = ""

    @property
    def short_subject(self) -> str:
        """The subject as one line."""
        return " ".join(self.subject.split())[:120]

    @property
    def body(self) -> str:
        """The text, cut to what a chat shows, and the link."""
        text = self.text if len(self.text) <= LONGEST_TEXT else f"{self.text[:LONGEST_TEXT]}\n…"
        return f"{text}\n{self.link}".strip()


def send(message: Message, notify: Notify | None, aws_conn_id: str | None) -> int:
    """Send a message through each channel of `notify`, or else of the Variable `hpc_site`; return how many took it."""
    sent = 0
    try:
        notify = notify or site_notify()
        for channel, notifier in _notifiers(message, notify, aws_conn_id) if notify else ():
            try:
                notifier.notify({})
            except Exception:
                log.exception("Nobody was told by %s: %s", channel, message.short_subject)
            else:
                sent += 1
                log.info("Told by %s: %s", channel, message.short_subject)
    except Exception:
        log.exception("Nobody was told: %s", message.short_subject)
    return sent


def _notifiers(message: Message, notify: Notify, aws_conn_id: str | None) -> Iterator[tuple[str, BaseNotifier]]:
    """Yield each channel's notifier. What it sends is not rendered as a template: it quotes what others wrote."""
    if notify.slack is not None:
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

        text = f"*{html.escape(message.short_subject, quote=False)}*\n{html.escape(message.body, quote=False)}"
        yield "Slack", SlackWebhookNotifier(slack_webhook_conn_id=notify.slack, text=text, timeout=30)
    if notify.mail is not None:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        yield (
            "mail",
            SmtpNotifier(
                smtp_conn_id=notify.mail.connection,
                to=list(notify.mail.to),
                from_email=notify.mail.sender,
                subject=message.short_subject,
                html_content=f"<pre>{html.escape(message.body)}</pre>",
            ),
        )
    if notify.sns is not None:
        from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

        # SNS takes subjects of ASCII only, of at most 100 characters.
        subject = message.short_subject.encode("ascii", "replace").decode()[:99]
        yield (
            "SNS",
            SnsNotifier(
                aws_conn_id=aws_conn_id,
                target_arn=notify.sns,
                subject=subject,
                message=message.body,
                region_name=notify.sns.split(":")[3],
            ),
        )


@dataclass(frozen=True)
class RunOf:
    """A run that people are told about, and the page to look at."""

    dag_id: str
    run_id: str
    link: str = ""

    @property
    def cluster(self) -> str:
        """The name of its cluster."""
        return names.cluster_name(self.dag_id, self.run_id)


@dataclass(frozen=True)
class Teller:
    """How people are told about the runs of one simulation: `tell(context, "the run failed", text)`.

    `notify` is the simulation's own; without it that of the Variable `hpc_site` counts. Nothing is asked of AWS if
    there is nobody to be told. `pool` is that of runs that share their cluster.
    """

    notify: Notify | None
    aws_conn_id: str | None
    pool: str | None = None

    def __call__(self, context: Context, event: str, text: str) -> None:
        """Tell of an event of the run that a task belongs to."""
        instance = context["ti"]
        self.tell(RunOf(instance.dag_id, instance.run_id, instance.log_url), event, text)

    def tell(self, run: RunOf, event: str, text: str) -> None:
        """Tell of an event of a run, and of what its cluster costs now."""
        try:
            if self.notify is None and site_notify() is None:
                return
        except Exception:
            log.exception("Nobody was told about %s of %s: %s", run.run_id, run.dag_id, event)
            return
        cluster = run.cluster if self.pool is None else shared_cluster(self.pool, self.aws_conn_id)
        first = f"Run {run.run_id} of {run.dag_id}, cluster {cluster}: {event}."
        cost = cost_of(cluster, self.aws_conn_id)
        send(Message(f"{run.dag_id}: {event}", f"{first}\n{text}\n{cost}", run.link), self.notify, self.aws_conn_id)

    def failed(self, event: str, *, unless: type[BaseException] | tuple[()] = ()) -> Callable[[Context], None]:
        """Return a callback of a task that has failed; nothing is told of errors that the task has told of itself."""

        def callback(context: Context) -> None:
            if isinstance(context.get("exception"), unless):
                return
            self(context, event, str(context.get("exception") or "The task was ended; its log may say why."))

        return callback

    def retried(self, event: str) -> Callable[[Context], None]:
        """Return a callback of a task that is tried again: it tells the first time only."""

        def callback(context: Context) -> None:
            if context["ti"].try_number <= 1:
                self(context, f"{event}, and is tried again", str(context.get("exception") or ""))

        return callback


def shared_cluster(pool: str, aws_conn_id: str | None) -> str:
    """Return the name of a pool's cluster now."""
    try:
        return PoolStore(Account(aws_conn_id, site("region")).client("s3"), site("bucket"), pool).read().cluster_name
    except Exception as error:  # the message is more than the name
        log.warning("Which cluster pool %s has is not known: %s", pool, error)
        return f"of pool {pool}"


def cost_of(cluster: str, aws_conn_id: str | None) -> str:
    """Return in one line what is there of a cluster now, and what it costs an hour at list prices."""
    try:
        found = find_leftovers(cluster, Account(aws_conn_id, site("region")).client)
    except Exception as error:  # the message is more than its price
        log.warning("What %s costs is not known: %s", cluster, error)
        return "What it costs now is not known."
    unknown = f" Not known: {'; '.join(found.unknown)}." if found.unknown else ""
    if not found.billing:
        return f"It costs nothing{' that is known' if unknown else ''} now.{unknown}"
    things = ", ".join(f"{thing.kind} {thing.id}" for thing in found.billing[:10])
    return f"It costs {found.cost} now: {things}.{unknown}"

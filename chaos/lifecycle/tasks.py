"""What Airflow does with a task of a run, in a process each: execute it, run its trigger, resume it with the event.

The DAG is the shipped one, and the worker's part is Airflow's own code (`airflow.sdk.execution_time.task_runner`):
templates, hooks, retry policy, deferral, XComs and callbacks. Only who answers it, the supervisor with the API server
behind, is played here, from the file of the run (`chaos.lifecycle.record`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

# Imported here, before a process forks, as Airflow's executor does: otherwise each process would take seconds.
import asyncssh  # noqa: F401
import botocore.loaders
import structlog
from airflow.providers.amazon.aws.hooks.cloud_formation import CloudFormationHook  # noqa: F401
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier  # noqa: F401
from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TaskInstanceState, TIRunContext
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.plugins_manager import integrate_macros_plugins
from airflow.sdk.serde import deserialize, serialize

from chaos.lifecycle.dags import Order, dag_of, hurry
from chaos.lifecycle.plan import Moment
from chaos.lifecycle.record import Document, Record, key_of, task_of
from chaos.tasks import LOST_AFTER
from hpc.cluster import cli
from hpc.cluster.account import Account
from hpc.cluster.stacks import describe_stack
from hpc.slurm import record as slurm_record
from hpc.slurm import triggers as slurm_triggers

_REPORTS = (comms.SucceedTask, comms.DeferTask, comms.RetryTask, comms.TaskState)
_SERVICES = ("cloudformation", "ec2", "s3", "sts", "dynamodb", "logs", "fsx", "efs", "route53", "cloudwatch")

integrate_macros_plugins()
# One loader for all that fork: reading AWS's models takes most of a second of each process, otherwise.
_LOADER = botocore.loaders.create_loader()
for _service in _SERVICES:
    _LOADER.load_service_model(_service, "service-2")
    _LOADER.load_service_model(_service, "endpoint-rule-set-1")
botocore.loaders.create_loader = lambda search_path_string=None: _LOADER


def work(order: Order) -> dict[str, Any]:
    """Do one order, whose outcome is in the record; a trigger's event is returned as well."""
    if order["moment"] == Moment.BEGINNING:
        os.kill(os.getpid(), signal.SIGKILL)
    os.environ.update(order["environment"])
    for module in (slurm_record, slurm_triggers):
        vars(module)["LOST_AFTER"] = LOST_AFTER
    hurry()
    if not order["checks"]:
        _leave_checks_out()
    record = Record(Path(order["record"]))
    vars(task_runner)["SUPERVISOR_COMMS"] = Supervisor(order, record)
    return _wait(order, record) if order["phase"] == "wait" else _execute(order, record)


def _leave_checks_out() -> None:
    """Take a configuration as it is: checking it costs ten seconds of a processor, and no fault is to hit that.

    But where a stack bears the name already, the dry run is the real one, which refuses that.
    """
    real = cli.Pcluster.dry_run

    def dry_run(self: cli.Pcluster, cluster_name: str, config: str) -> dict[str, Any]:
        stack = describe_stack(Account("aws_default", None).client("cloudformation"), cluster_name)
        return real(self, cluster_name, config) if stack is not None else {}

    cli.Pcluster.check_schema = lambda *_: []  # type: ignore[method-assign]
    cli.Pcluster.dry_run = dry_run  # type: ignore[method-assign]


# ------------------------------------------------------------------------------------------------ the worker
def _execute(order: Order, record: Record) -> dict[str, Any]:
    began = time.monotonic()
    instance = _task_instance(order, record)
    log = structlog.get_logger(logger_name="task")
    context = instance.get_template_context()
    state, _, error = task_runner.run(instance, context, log)
    context["exception"] = error
    task_runner.finalize(instance, state, context, log, error)
    print(f"{order['key']}: {state.value}, {time.monotonic() - began:.2f} s, {os.times()[:4]}, {error!r}")
    return {"state": state.value}


def _task_instance(order: Order, record: Record) -> RuntimeTaskInstance:
    document = record.read()
    known, start = task_of(document, order["key"]), datetime.fromisoformat(document["start_date"])
    task: Any = dag_of(order).get_task(order["task_id"])
    run = DagRun(
        dag_id=document["dag_id"],
        run_id=document["run_id"],
        logical_date=start,
        data_interval_start=start,
        data_interval_end=start,
        run_after=start,
        start_date=start,
        end_date=None,
        run_type=DagRunType.MANUAL,
        state=DagRunState.RUNNING,
        conf=document["conf"],
        consumed_asset_events=[],
        partition_key=None,
    )
    from_server = TIRunContext(
        dag_run=run,
        max_tries=known["max_tries"],
        should_retry=known["try_number"] <= known["max_tries"],
        next_method=known["next_method"],
        next_kwargs=known["next_kwargs"],
        # What the last try has pushed goes, unless this is its continuation.
        xcom_keys_to_clear=[] if known["next_method"] else list(document["xcoms"].get(order["key"], {})),
    )
    return RuntimeTaskInstance.model_construct(
        id=uuid4(),
        task_id=order["task_id"],
        dag_id=document["dag_id"],
        run_id=document["run_id"],
        try_number=known["try_number"],
        map_index=order["map_index"],
        dag_version_id=uuid4(),
        task=task,
        bundle_instance=None,  # type: ignore[arg-type]  # the DAG is here already
        _ti_context_from_server=from_server,
        max_tries=known["max_tries"],
        start_date=datetime.now(UTC),
        state=TaskInstanceState.RUNNING,
        sentry_integration="",
    )


# ------------------------------------------------------------------------------------------------ the triggerer
def _wait(order: Order, record: Record) -> dict[str, Any]:
    """Run a task's trigger, made anew from its serialized form, until its first event; its end is the task's resume."""
    task = task_of(record.read(), order["key"])
    path, kwargs = task["trigger"]
    module, _, name = path.rpartition(".")
    arguments: Any = deserialize(kwargs)
    if name == "DateTimeTrigger" and task["next_method"] != "create_now":  # a log group's name is of a real minute
        arguments["moment"] = min(arguments["moment"], datetime.now(UTC))
    try:
        event = asyncio.run(_first_event(getattr(import_module(module), name)(**arguments), order, record))
    except _EndedError:
        return {"ended": True}
    except Exception:
        lines = traceback.format_exc().splitlines()
        print(*lines, sep="\n")
        _resume(record, order["key"], "__fail__", {"error": "Trigger failed", "traceback": lines})
        return {"event": None}
    _resume(record, order["key"], task["next_method"], {**_kwargs(task["next_kwargs"]), "event": event})
    return {"event": True}


class _EndedError(Exception):
    """A person has ended the task."""


async def _first_event(trigger: Any, order: Order, record: Record) -> Any:
    document = record.read()
    trigger.task_instance = TaskInstanceOfTrigger(order, document)
    waiting = asyncio.ensure_future(anext(aiter(trigger.run())))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, waiting.cancel)
    try:
        return (await waiting).payload
    except asyncio.CancelledError:
        await trigger.on_kill()
        raise _EndedError from None


class TaskInstanceOfTrigger:
    """What a trigger knows of its task."""

    def __init__(self, order: Order, document: Document) -> None:
        self.dag_id, self.run_id = document["dag_id"], document["run_id"]
        self.task_id, self.map_index = order["task_id"], order["map_index"]


def _kwargs(serialized: Any) -> dict[str, Any]:
    kwargs: Any = deserialize(serialized or {})
    return dict(kwargs)


def _resume(record: Record, key: str, method: str, kwargs: dict[str, Any]) -> None:
    with record.changing() as document:
        task = task_of(document, key)
        if task["state"] == "deferred":
            task.update(state="scheduled", next_method=method, next_kwargs=serialize(kwargs))


# ------------------------------------------------------------------------------------------------ who answers
class Supervisor:
    """Answers a task's process as its supervisor does; told to, the process dies before or after it reports."""

    def __init__(self, order: Order, record: Record) -> None:
        self._moment = order["moment"]
        self._key = order["key"]
        self._record = record
        self._runs = Path(order["runs"])

    async def asend(self, message: Any) -> Any:
        """Answer."""
        return self.send(message)

    def send(self, message: Any = None, msg: Any = None) -> Any:
        """Answer."""
        message = message if msg is None else msg
        if isinstance(message, _REPORTS):
            self._die_at(Moment.BEFORE_REPORT)
            self._report(message)
            self._die_at(Moment.AFTER_REPORT)
            return comms.OKResponse(ok=True)
        answers: dict[type, Callable[[Any], Any]] = {
            comms.SetXCom: self._set_xcom,
            comms.GetXCom: self._get_xcom,
            comms.GetXComSequenceSlice: self._get_xcoms,
            comms.DeleteXCom: self._delete_xcom,
            comms.GetTaskStates: self._task_states,
            comms.GetDRCount: self._count_runs,
            comms.SetRenderedFields: lambda _: comms.OKResponse(ok=True),
            comms.GetConnection: lambda _: comms.ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND),
            comms.GetVariable: lambda _: comms.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND),
        }
        return answers[type(message)](message)

    def _die_at(self, moment: Moment) -> None:
        if self._moment == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def _report(self, message: Any) -> None:
        with self._record.changing() as document:
            task = document["tasks"].get(self._key)
            if task is None or task["state"] != "running":
                detail = {"status_code": 409, "message": "the task is not running any more"}
                raise AirflowRuntimeError(comms.ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
            if isinstance(message, comms.DeferTask):
                task.update(state="deferred", trigger=[message.classpath, message.trigger_kwargs])
                task.update(next_method=message.next_method, next_kwargs=message.next_kwargs)
                return
            by_type: dict[type, str] = {comms.SucceedTask: "success", comms.RetryTask: "up_for_retry"}
            state = by_type.get(type(message)) or message.state.value
            task.update(state=state, next_method=None, next_kwargs=None)

    def _set_xcom(self, message: Any) -> Any:
        with self._record.changing() as document:
            document["xcoms"].setdefault(self._xcom_key(message), {})[message.key] = message.value
        return comms.OKResponse(ok=True)

    def _get_xcom(self, message: Any) -> Any:
        value = self._record.read()["xcoms"].get(self._xcom_key(message), {}).get(message.key)
        return comms.XComResult(key=message.key, value=value)

    def _get_xcoms(self, message: Any) -> Any:
        xcoms = self._record.read()["xcoms"]
        keys = [key for key in xcoms if key == message.task_id or key.startswith(f"{message.task_id}_")]
        values = [xcoms[key][message.key] for key in keys if message.key in xcoms[key]]
        return comms.XComSequenceSliceResult(root=values[slice(message.start, message.stop, message.step)])

    def _delete_xcom(self, message: Any) -> Any:
        with self._record.changing() as document:
            document["xcoms"].get(self._xcom_key(message), {}).pop(message.key, None)
        return comms.OKResponse(ok=True)

    @staticmethod
    def _xcom_key(message: Any) -> str:
        return key_of(message.task_id, message.map_index)

    def _task_states(self, message: Any) -> Any:
        document = self._record.read()
        wanted = message.task_ids
        index = message.map_index
        keys = wanted if wanted is None or index is None or index < 0 else [key_of(name, index) for name in wanted]
        states = {key: task["state"] for key, task in document["tasks"].items() if keys is None or key in keys}
        return comms.TaskStatesResult(task_states={document["run_id"]: states})

    def _count_runs(self, message: Any) -> Any:
        runs = [Record(path).read() for path in self._runs.glob("*/run.json")]
        found = [
            run
            for run in runs
            if (run["dag_id"], run["run_id"]) == (message.dag_id, message.run_ids[0]) and run["state"] != "deleted"
        ]
        return comms.DRCount(count=sum(message.states is None or run["state"] in message.states for run in found))

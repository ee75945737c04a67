"""A DAG of the same shape as another in which nothing happens: what Airflow itself takes for a run of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

HEAD = '''\
"""Made by `make bench-lifecycle`: the shape of {shape}, and nothing in it. It imports nothing of the project."""

from datetime import timedelta

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator


class Nothing(BaseOperator):
    """Runs in a worker as any operator does, and has nothing to do; `defers` so many times on the way."""

    def __init__(self, *, defers=0, **kwargs):
        super().__init__(**kwargs)
        self.defers = defers

    def execute(self, context, event=None, left=None):
        left = self.defers if left is None else left
        if left:
            self.defer(trigger=TimeDeltaTrigger(timedelta(0)), method_name="execute", kwargs={{"left": left - 1}})


for name in {names!r}:
    with DAG(name, schedule=None, is_paused_upon_creation=False):
        tasks = {{}}
'''


def source_of_empty_dags(dag: DAG, names: Sequence[str], *, defers: bool) -> str:
    """Return a file of DAGs with the tasks, arrows, setups and teardowns of `dag`.

    With `defers`, each task whose original waits in the triggerer goes there once, and comes back at once.
    """
    from airflow.sdk import TriggerRule

    lines = [HEAD.format(shape=dag.dag_id, names=list(names))]
    for task in dag.tasks:
        rule, times = TriggerRule(task.trigger_rule).value, int(defers and waits_in_triggerer(task))
        kind = ""
        if task.is_setup:
            kind = ".as_setup()"
        elif task.is_teardown:
            kind = f".as_teardown(on_failure_fail_dagrun={task.on_failure_fail_dagrun})"
        made = f"Nothing(task_id={task.task_id!r}, trigger_rule={rule!r}, defers={times})"
        lines.append(f"        tasks[{task.task_id!r}] = {made}{kind}\n")
    for task in dag.tasks:
        lines += [
            f"        tasks[{task.task_id!r}] >> tasks[{other!r}]\n" for other in sorted(task.downstream_task_ids)
        ]
    return "".join(lines)


def waits_in_triggerer(task: Any) -> bool:
    """Say whether an operator is one that defers on its usual way."""
    return bool(getattr(task, "deferrable", False) and getattr(task, "wait_for_completion", True))

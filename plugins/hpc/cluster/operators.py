"""Steps 1, 2, 3 and 5: install ParallelCluster, render the configuration, create and verify a cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator

from hpc import names
from hpc.aws_errors import aws_errors
from hpc.cluster import install, leftovers, template, verification
from hpc.cluster.answers import validation_lines
from hpc.cluster.base import ClusterTask
from hpc.cluster.cli import Pcluster
from hpc.cluster.decision import (
    Action,
    alternative_of,
    decide_creation,
    next_alternative,
    ownership,
    passes_by_itself,
    require_same_owner,
)
from hpc.cluster.links import CloudFormationStackLink
from hpc.cluster.log_groups import seconds_until_name_is_free
from hpc.cluster.sensors import diagnose
from hpc.errors import ClusterError, ConfigurationError, DeadlineExceededError, HpcError
from hpc.waiting import is_past

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

STACK_LINK: tuple[BaseOperatorLink, ...] = (CloudFormationStackLink(),)
ORANGE = "#ff9900"


def run_tags(context: Context) -> dict[str, str]:
    """Return the tags that say of which run a cluster is."""
    return {
        names.TAG_SIMULATION: names.tag_value(context["ti"].dag_id),
        names.TAG_RUN_ID: names.tag_value(context["ti"].run_id),
    }


class ParallelClusterInstallOperator(BaseOperator):
    """Install the AWS ParallelCluster that the project's lock pins, in an environment of its own, unless it is there.

    Returns `{"version", "executable"}`. Safe to repeat, and to run at the same time from several tasks.
    """

    ui_color = ORANGE

    def execute(self, context: Context) -> dict[str, str]:
        """Install."""
        environment = install.describe_environment()
        began = time.monotonic()
        if install.install(environment, say=self.log.info):
            self.log.info("Installed in %.1f s.", time.monotonic() - began)
        else:
            self.log.info("AWS ParallelCluster %s is installed in %s.", environment.version, environment.root)
        return {"version": environment.version, "executable": str(environment.executable)}


class RenderClusterConfigOperator(ClusterTask, BaseOperator):
    """Make a cluster configuration from a template and have ParallelCluster check it, first offline, then as a dry run.

    Returns the configuration, YAML, which is also the rendered field `cluster_config`. Raises ConfigurationError
    that names all that is wrong; nothing is created in AWS, so it can be repeated at will.

    :param cluster_name: (templated)
    :param template: path of the ParallelCluster template; see `hpc.cluster.template` for its placeholders
    :param values: what the template may use (templated)
    :param overrides: what the template has to use; wins over `values` (templated)
    :param alternatives: further `overrides`, each of which makes another configuration, checked as the first is;
        pushed as a list, the XCom `alternatives` (templated)
    :param tags: put on the cluster and on everything in it (templated)
    :param aws_conn_id: Airflow connection with AWS credentials, region and endpoint
    :param region_name: AWS region instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        *("cluster_name", "values", "overrides", "alternatives", "tags", "region_name", "cluster_config"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"cluster_config": "yaml", "values": "json", "tags": "json"}
    overwrite_rtif_after_execution = True
    ui_color = ORANGE

    def __init__(
        self,
        *,
        cluster_name: str,
        template: str,
        values: Mapping[str, template.Value] | None = None,
        overrides: Mapping[str, template.Value] | None = None,
        alternatives: Sequence[Mapping[str, template.Value]] = (),
        tags: Mapping[str, str] | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alternatives = [dict(values) for values in alternatives]
        self.cluster_name = cluster_name
        self.template = template
        self.values = dict(values or {})
        self.overrides = dict(overrides or {})
        self.tags = dict(tags or {})
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        #: Filled by `execute`, so that the UI shows the configuration among the rendered fields.
        self.cluster_config = ""

    def execute(self, context: Context) -> str:
        """Render and validate."""
        pcluster = self.pcluster()
        source = Path(self.template)
        try:
            text = source.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"the cluster template {source} cannot be read: {error}") from error

        def render(overrides: Mapping[str, template.Value], tags: Mapping[str, str]) -> str:
            return template.render_template(
                *(text,),
                source=source.name,
                facts=self.values,
                overrides={**self.overrides, **overrides},
                tags={**self.tags, **tags},
                region=pcluster.region,
            )

        config = render({}, {})
        alternatives = [
            render(values, {names.TAG_ALTERNATIVE: str(number)}) for number, values in enumerate(self.alternatives, 1)
        ]
        self.cluster_config = config
        self.log.info("The configuration of cluster %s:\n%s", self.cluster_name, config)
        is_made = self._is_made(context)
        self._check(pcluster, source.name, config, is_made=is_made)
        for number, other in enumerate(alternatives, 1):
            self.log.info("Alternative %d of %d: %s", number, len(alternatives), self.alternatives[number - 1])
            self._check(pcluster, source.name, other, is_made=is_made)
        if alternatives:
            context["ti"].xcom_push(key="alternatives", value=alternatives)
        return config

    def _is_made(self, context: Context) -> bool:
        """Say whether the run has its cluster already: whoever clears a whole run goes on with the one that is there.

        Raises ConfigurationError if the name is that of another cluster.
        """
        stack = self.find_stack()
        if stack is None or stack.status == "DELETE_COMPLETE":
            return False
        require_same_owner(stack, ownership({**run_tags(context), **self.tags}))
        self.log.info("The cluster is there already, %s.", stack.status)
        return True

    def _check(self, pcluster: Pcluster, source: str, config: str, *, is_made: bool) -> None:
        problems = pcluster.check_schema(self.cluster_name, config)
        if problems:
            lines = "\n".join(f"  {problem}" for problem in problems)
            raise ConfigurationError(
                f"{source}: ParallelCluster's schema refuses the configuration:\n{lines}",
                remedy="correct the template; the keys are in ParallelCluster's configuration reference",
            )
        if is_made:
            self.log.info("ParallelCluster's schema found nothing wrong. Its dry run needs a name that is free.")
            return
        answer = pcluster.dry_run(self.cluster_name, config)
        for line in validation_lines(answer):
            self.log.warning("%s", line)
        self.log.info("ParallelCluster would create this cluster: schema and dry run found nothing wrong.")


class ParallelClusterCreateOperator(ClusterTask, BaseOperator):
    """Create a cluster, or adopt the one that an earlier try of the same run has begun.

    Looks before it acts: a stack of this name that bears the same tags and is being made or is ready is adopted; a
    failed one is explained and deleted first; somebody else's is left alone with a ConfigurationError. While it waits,
    a cluster that fails for want of capacity or addresses is made again from the next alternative. Returns
    `{"cluster_name", "stack_id", "adopted", "alternative"}`; `alternative` is 0 for `cluster_config` itself.

    :param cluster_name: (templated)
    :param cluster_config: the configuration as YAML; gets tags that name DAG and run unless it has them (templated)
    :param alternatives: configurations to try one after the other, as RenderClusterConfigOperator pushes them; a list
        or its JSON text (templated)
    :param evidence_uri: an s3:// folder that gets what explains a failed creation (templated)
    :param adopt_only: see a cluster through that another task has begun; without one there is an error
    :param rollback_on_failure: whether CloudFormation removes what it made when something fails; without it all
        stays for a look until the cluster is deleted
    :param wait_for_completion: wait until the stack is created, with its events in the log
    :param aws_conn_id: Airflow connection with AWS credentials, region and endpoint
    :param region_name: AWS region instead of the connection's (templated)
    :param deferrable: wait in the triggerer instead of on a worker
    :param waiter_delay: longest pause between two questions, in seconds
    :param waiter_max_attempts: the wait ends after waiter_delay x waiter_max_attempts seconds
    :param until: the wait ends at this moment in any case, `2026-12-31T23:59:59Z`, and no cluster is created after it;
        None for no such moment (templated)
    """

    template_fields: Sequence[str] = (
        *("cluster_name", "cluster_config", "alternatives", "evidence_uri", "region_name", "until"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"cluster_config": "yaml"}
    operator_extra_links = STACK_LINK
    ui_color = ORANGE

    def __init__(
        self,
        *,
        cluster_name: str,
        cluster_config: str,
        alternatives: Sequence[str] | str = (),
        evidence_uri: str = "",
        adopt_only: bool = False,
        rollback_on_failure: bool = True,
        wait_for_completion: bool = True,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        deferrable: bool = True,
        waiter_delay: float = 15,
        waiter_max_attempts: int = 360,
        until: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.cluster_config = cluster_config
        self.alternatives = alternatives
        self.evidence_uri = evidence_uri
        self.adopt_only = adopt_only
        self.rollback_on_failure = rollback_on_failure
        self.wait_for_completion = wait_for_completion
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.deferrable = deferrable
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.until = until

    def execute(self, context: Context) -> dict[str, Any]:
        """Look, then create, adopt or replace."""
        stack = self.find_stack()
        action = decide_creation(stack, self._tags(context))
        if self.adopt_only and action in (Action.CREATE, Action.WAIT_THEN_CREATE):
            # Whoever deletes it wants it gone: the wait ends with the error that says so.
            return self._created(context, stack.id if stack else self.cluster_name, adopted=True, number=0)
        if stack is None or action is Action.CREATE:
            return self._create_when_name_is_free(context, 0)
        self.show_link(context, stack.id)
        if action is Action.ADOPT:
            self.log.info("Cluster %s is %s already: adopted.", self.cluster_name, stack.status)
            return self._created(context, stack.id, adopted=True, number=alternative_of(stack))
        if action is Action.WAIT_THEN_CREATE:
            self.log.info("Stack %s of an earlier try is being deleted: waiting for its end.", stack.name)
            return self._create_when_gone(context, stack.id, 0)
        failed, number = {"stack_id": stack.id, "stack_status": stack.status}, alternative_of(stack)
        error = self._explain(context, failed, number)
        other = next_alternative(error, number, self._count())
        if other is None and self.adopt_only and not (context["ti"].try_number > 1 and passes_by_itself(error)):
            raise error
        self.log.warning("Stack %s of an earlier try is %s: deleted first.", stack.name, stack.status)
        return self._replace(context, stack.id, error, other or 0)

    def create_after_deletion(self, context: Context, event: dict[str, Any] | None, number: int = 0) -> dict[str, Any]:
        """Create the cluster now that the failed one is gone."""
        gone = self.require_success(event, f"the deletion of the failed cluster {self.cluster_name}")
        if gone["status"] != "success":
            raise diagnose(self, gone, "DELETE_COMPLETE")
        return self._create_when_name_is_free(context, number)

    def create_now(self, context: Context, event: Any = None, number: int = 0) -> dict[str, Any]:
        """Create the cluster now that its log group can have a name of its own."""
        return self._create(context, number)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None, adopted: bool = False, number: int = 0
    ) -> dict[str, Any]:
        """Return the created cluster; or make it from the next alternative, or raise why it was not created."""
        reached = self.require_success(event, f"the creation of cluster {self.cluster_name}")
        if reached["status"] == "success":
            self.log.info("Cluster %s is %s.", self.cluster_name, reached["stack_status"])
            return self._result(reached["stack_id"], adopted, number)
        error = self._explain(context, reached, number)
        other = next_alternative(error, number, self._count())
        if other is None:
            raise error
        return self._replace(context, reached["stack_id"], error, other)

    def _count(self) -> int:
        return len(self._alternatives())

    def _alternatives(self) -> list[str]:
        value = json.loads(self.alternatives) if isinstance(self.alternatives, str) else self.alternatives
        return list(value or [])

    def _tags(self, context: Context) -> dict[str, str]:
        """Return what tells our stack from somebody else's."""
        return template.read_tags(self._identified_config(context, 0))

    def _identified_config(self, context: Context, number: int) -> str:
        return template.add_tags([self.cluster_config, *self._alternatives()][number], run_tags(context))

    def _explain(self, context: Context, reached: Mapping[str, Any], number: int) -> HpcError:
        number = min(number, self._count())
        config = self._identified_config(context, number)
        return diagnose(self, reached, "CREATE_COMPLETE", evidence_uri=self.evidence_uri, configuration=config)

    def _replace(self, context: Context, stack_id: str, error: HpcError, number: int) -> dict[str, Any]:
        self.log.warning("%s", error)
        self._require_time(error)
        if number:
            self.log.warning("Trying again with alternative %d of %d.", number, self._count())
        with aws_errors():
            self.account.client("cloudformation").delete_stack(StackName=stack_id)
        return self._create_when_gone(context, stack_id, number)

    def _create_when_gone(self, context: Context, stack_id: str, number: int) -> dict[str, Any]:
        self._require_time()
        event = self.wait_for_stack(stack_id, "DELETE_COMPLETE", "create_after_deletion", number=number)
        return self.create_after_deletion(context, event, number)

    def _create_when_name_is_free(self, context: Context, number: int) -> dict[str, Any]:
        groups = leftovers.find_kept(self.cluster_name, self.account.client)
        wait = seconds_until_name_is_free(groups, datetime.now(UTC))
        if wait:
            self.log.info("The log group %s is of this very minute: creating in %.0f s.", groups[-1], wait)
            if self.deferrable:
                trigger = TimeDeltaTrigger(timedelta(seconds=wait))
                self.defer(trigger=trigger, method_name="create_now", kwargs={"number": number})
            time.sleep(wait)
        return self.create_now(context, number=number)

    def _create(self, context: Context, number: int) -> dict[str, Any]:
        self._require_time()
        self.log.info("Creating cluster %s with pcluster create-cluster.", self.cluster_name)
        config = self._identified_config(context, number)
        try:
            answer = self.pcluster().create(self.cluster_name, config, rollback_on_failure=self.rollback_on_failure)
        except HpcError:
            # A create of an earlier try may have got through in between: what counts is what CloudFormation has now.
            stack = self.find_stack()
            if stack is None or decide_creation(stack, self._tags(context)) is not Action.ADOPT:
                raise
            self.log.warning("pcluster complained, but cluster %s is %s: adopted.", stack.name, stack.status)
            self.show_link(context, stack.id)
            return self._created(context, stack.id, adopted=True, number=alternative_of(stack))
        for line in validation_lines(answer):
            self.log.warning("%s", line)
        stack_id = answer["cluster"]["cloudformationStackArn"]
        self.log.info("CloudFormation is making it: %s", stack_id)
        self.show_link(context, stack_id)
        return self._created(context, stack_id, adopted=False, number=number)

    def _require_time(self, failure: HpcError | None = None) -> None:
        """Raise DeadlineExceededError past `until`: no cluster is created then, and none is deleted to be replaced."""
        if is_past(self.until):
            raise DeadlineExceededError(
                f"cluster {self.cluster_name} is not created any more: the run is past its deadline ({self.until})",
                remedy="nothing; if the next run needs longer, raise the simulation's deadline",
            ) from failure

    def _created(self, context: Context, stack_id: str, *, adopted: bool, number: int) -> dict[str, Any]:
        if not self.wait_for_completion:
            return self._result(stack_id, adopted, number)
        facts: dict[str, Any] = {"adopted": adopted, "number": number}
        event = self.wait_for_stack(stack_id, "CREATE_COMPLETE", "execute_complete", **facts)
        return self.execute_complete(context, event, **facts)

    def _result(self, stack_id: str, adopted: bool, number: int) -> dict[str, Any]:
        return {"cluster_name": self.cluster_name, "stack_id": stack_id, "adopted": adopted, "alternative": number}


class ParallelClusterVerifyOperator(ClusterTask, BaseOperator):
    """Ask AWS *and* the head node whether a cluster can work: instance, fleet, FSx, Slurm, shared folder.

    Returns `{"head_node": its address, "scheduler", "slurm_version", "fleet", "partitions", "shared_dirs",
    "file_systems"}`. Raises ClusterError that names what is not as it has to be.

    :param cluster_name: (templated)
    :param shared_dir: the folder that jobs will work in; it has to be mounted and writable (templated)
    :param ssh_conn_id: Airflow connection with the head node's user, key and port
    :param aws_conn_id: Airflow connection with AWS credentials, region and endpoint
    :param region_name: AWS region instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("cluster_name", "shared_dir", "region_name")
    operator_extra_links = STACK_LINK
    ui_color = ORANGE

    def __init__(
        self,
        *,
        cluster_name: str,
        shared_dir: str = "/fsx",
        ssh_conn_id: str = "hpc_head_node",
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.shared_dir = shared_dir
        self.ssh_conn_id = ssh_conn_id
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask."""
        from hpc.head_node.address import find_head_node
        from hpc.head_node.session import run_session

        stack = self.find_stack()
        if stack is None:
            raise ClusterError(f"There is no cluster {self.cluster_name}.", remedy="clear the task that creates it")
        self.show_link(context, stack.id)
        address = find_head_node(self.cluster_name, aws_conn_id=self.aws_conn_id, region_name=self.region_name or None)
        self.log.info("Head node %s runs at %s.", address.instance_id, address.host)
        file_systems = verification.require_file_systems(self.account.client, stack.id)
        for name in file_systems:
            self.log.info("FSx file system %s is AVAILABLE.", name)
        fleet = verification.require_fleet(self.account.client("dynamodb"), self.cluster_name)
        self.log.info("The compute fleet is %s.", fleet)
        seen = run_session(
            address, self.ssh_conn_id, lambda session: verification.verify_head_node(session, self.shared_dir)
        )
        self.log.info(
            "Slurm %s is up with partitions %s; %s is mounted and writable.",
            *(seen["slurm_version"], ", ".join(seen["partitions"]), self.shared_dir),
        )
        return {"head_node": address.as_dict(), "fleet": fleet, "file_systems": file_systems, **seen}

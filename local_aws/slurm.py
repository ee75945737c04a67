"""`slurm.conf` as ParallelCluster writes it, with its clocks set to a laptop's time scale.

Each setting that differs from a real cluster says why. Nothing here starts anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from local_aws.cluster_config import ClusterConfig
from local_aws.machine import Login

SECONDS_PER_SCALEDOWN_MINUTE = 2

AS_IN_PARALLELCLUSTER = """\
AuthType=auth/munge
CredType=cred/munge
SwitchType=switch/none
MpiDefault=none
ReturnToService=1
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
SlurmctldDebug=verbose
SlurmdDebug=info
DebugFlags=Power
CommunicationParameters=NoAddrCache,NoCtldInAddrAny
SuspendProgram=/opt/parallelcluster/scripts/suspend.sh
ResumeProgram=/opt/parallelcluster/scripts/resume.sh
ResumeFailProgram=/opt/parallelcluster/scripts/suspend.sh
ResumeRate=0
SuspendRate=0
PrivateData=cloud
SlurmctldTimeout=300
InactiveLimit=0
MinJobAge=300
Waittime=0
MessageTimeout=60
BatchStartTimeout=60
EnforcePartLimits=ALL
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobCompType=jobcomp/none
"""

ON_A_LAPTOP = """\
# A node boots in two seconds, so nobody waits minutes to notice that it does not (1800, 120 and 180 on a real cluster).
ResumeTimeout=30
SuspendTimeout=5
SlurmdTimeout=20
SlurmctldParameters=idle_on_node_suspend,power_save_min_interval=0,power_save_interval=1,cloud_dns
# A requeued job starts again when its credential has expired (70 s on a real cluster), and not before slurmctld has
# given up telling the lost node to end it (11 s): that message would reach the new instance and end the new run.
AuthInfo=cred_expire=15
KillWait=5
UnkillableStepTimeout=30
SchedulerParameters=nohold_on_prolog_fail,batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=2
PrologSlurmctld=/opt/parallelcluster/scripts/prolog.sh
# No root and no control groups in here, and an instance may have more CPUs than this computer.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
"""


@dataclass(frozen=True)
class Controller:
    """Where slurmctld listens, and the ports of the nodes' slurmds, one each from `first_node_port` on.

    A slurmd must listen on every address (it is called back as 127.0.0.1), so nodes are told apart by port as well.
    """

    hostname: str
    address: str
    port: int
    first_node_port: int


def slurm_conf(config: ClusterConfig, controller: Controller, login: Login) -> str:
    """Write the configuration of the whole cluster."""
    static = ",".join(config.static_nodes)
    return "".join(
        [
            f"ClusterName={config.name}\n",
            f"SlurmctldHost={controller.hostname}({controller.address})\n",
            f"SlurmctldPort={controller.port}\n",
            f"SlurmUser={login.name}\n",
            f"SlurmdUser={login.name}\n",
            f"SuspendTime={max(5, config.scaledown_minutes * SECONDS_PER_SCALEDOWN_MINUTE)}\n",
            f"SuspendExcNodes={static}\n" if static else "",
            _without(dict(config.custom_settings), AS_IN_PARALLELCLUSTER + ON_A_LAPTOP),
            *(f"{key}={value}\n" for key, value in config.custom_settings),
            *_node_lines(config, controller.first_node_port),
            *(_partition_line(config, queue) for queue in config.queues),
        ]
    )


def _without(overridden: Mapping[str, str], settings: str) -> str:
    """Leave out what CustomSlurmSettings set: slurmctld refuses a key that stands twice."""
    names = {name.lower() for name in overridden}
    return "".join(line for line in settings.splitlines(keepends=True) if line.split("=")[0].lower() not in names)


def _node_lines(config: ClusterConfig, port: int) -> Iterator[str]:
    for resource in config.compute_resources:
        for nodes in resource.node_ranges:
            kind = "static" if nodes.is_static else "dynamic"
            yield (
                f"NodeName={nodes.expression} Port=[{port}-{port + nodes.count - 1}] CPUs={resource.cpus} "
                f"RealMemory={resource.memory} State=CLOUD Feature={kind},{resource.instance_type},{resource.name}\n"
            )
            port += nodes.count


def _partition_line(config: ClusterConfig, queue: str) -> str:
    resources = [resource for resource in config.compute_resources if resource.queue == queue]
    nodes = ",".join(nodes.expression for resource in resources for nodes in resource.node_ranges)
    default = "YES" if queue == config.queues[0] else "NO"
    return f"PartitionName={queue} Nodes={nodes} MaxTime=INFINITE State=UP Default={default}\n"

"""What a simulation is: one YAML file below config/simulations/, read into one frozen model.

Everything is validated here, once. A wrong value raises `SimulationFileError`, which names file, path, value and
remedy; nothing falls back to a default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from pathlib import Path, PurePosixPath
from pkgutil import resolve_name
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from hpc import PROJECT_ROOT
from hpc.durations import parse_duration, parse_walltime
from hpc.errors import ConfigurationError
from hpc.parameters import Model, Parameter
from hpc.problems import describe, did_you_mean
from hpc.sweep import Sweep, check_points

SIMULATIONS_DIR = PROJECT_ROOT / "config" / "simulations"
CLUSTERS_DIR = PROJECT_ROOT / "config" / "clusters"
JOB_SCRIPTS_DIR = PROJECT_ROOT / "include" / "job_scripts"


# ------------------------------------------------------------------------------------------------ words of the field
def _read_duration(value: object) -> object:
    try:
        return parse_duration(value) if isinstance(value, str) else value
    except OverflowError as error:
        raise ValueError(f"{value!r} is too long") from error


def _read_walltime(value: object) -> object:
    return parse_walltime(value) if isinstance(value, str) else value


#: Beyond it the sums with dates, ours and Airflow's, overflow in the end; and no ephemeral cluster is that old.
LONGEST_DURATION = timedelta(days=365)


def _within_bounds(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than 0 s")
    if value > LONGEST_DURATION:
        raise ValueError(f"must not be longer than {LONGEST_DURATION.days}d")
    return value


def _not_the_janitors(name: str) -> str:
    if name == "janitor" or name.startswith("janitor_"):
        raise ValueError("is the name of a janitor's DAG; choose another one")
    return name


def _slurm_walltime(value: timedelta) -> timedelta:
    if value < timedelta(minutes=1):
        raise ValueError("must be at least 00:01:00, the smallest walltime that Slurm knows")
    return value


def _seconds(value: timedelta) -> float:
    return value.total_seconds()


Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    AfterValidator(_within_bounds),
    PlainSerializer(_seconds, return_type=float),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+[dhms])+$", "examples": ["90s", "15m", "2h", "1d12h"]}),
]
Walltime = Annotated[
    timedelta,
    BeforeValidator(_read_walltime),
    AfterValidator(_slurm_walltime),
    PlainSerializer(_seconds, return_type=float),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$", "examples": ["00:30:00", "1-12:00:00"]}
    ),
]


@cache  # it looks through a folder of hundreds of files
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _time_zone(value: str) -> str:
    if value not in _time_zones():
        raise ValueError(f"no such time zone{did_you_mean(value, _time_zones())}")
    return value


def _file_name(value: str) -> str:
    """Accept a relative path that stays where it is put: no `..`, no root, no control characters, no leading dash."""
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError("must be a relative path without '..'")
    if any(ord(character) < 32 or character == "\\" for character in value):
        raise ValueError("must not contain control characters or backslashes")
    if any(part.startswith("-") for part in path.parts):
        raise ValueError("no part of it may begin with '-'")
    return value


TimeZone = Annotated[str, AfterValidator(_time_zone)]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_file_name)]
Glob = FileName
#: Becomes the DAG id and the beginning of the cluster's name.
SimulationName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$"), AfterValidator(_not_the_janitors)]
#: Becomes the name of a pool's clusters, `pool-<name>-<number>`, which are 40 characters with accounting.
PoolName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,23}$")]
#: Becomes the environment variable PARAM_<NAME> of the job.
ParameterName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
QueueName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,24}$")]
#: What AWS allows in the value of a tag.
TagValue = Annotated[str, StringConstraints(pattern=r"^[\w .:/=+@-]+$", max_length=256)]
#: What Airflow takes as the tag of a DAG.
DagTag = Annotated[str, StringConstraints(min_length=1, max_length=100)]
BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
KeyPrefix = Annotated[str, StringConstraints(pattern=r"^[\w!.*'()-]+(/[\w!.*'()-]+)*$", max_length=512)]
ConnectionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=200)]
MailAddress = Annotated[str, StringConstraints(pattern=r"^[^@\s<>,;]+@[^@\s<>,;]+$", max_length=254)]
TopicArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+$")]
AlarmName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,127}$")]
Memory = Annotated[str, StringConstraints(pattern=r"^\d+[KMGT]?$")]


# ------------------------------------------------------------------------------------------------ parts of a simulation
class Schedule(Model):
    """When the simulation starts by itself: a cron expression or one of Airflow's timetables."""

    cron: str | None = Field(None, description="A cron expression or preset, for example '0 2 * * *' or '@daily'.")
    timetable: str | None = Field(None, description="The import path of an Airflow timetable class.")
    timetable_args: tuple[Any, ...] = Field((), description="The positional arguments of the class.")
    timetable_kwargs: dict[str, Any] = Field(default_factory=dict, description="The keyword arguments of the class.")
    timezone: TimeZone = "UTC"
    start: date | None = Field(None, description="The first day; from now on if left out.")
    catchup: bool = Field(False, description="Also run for the intervals missed since `start`.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Schedule:
        if (self.cron is None) == (self.timetable is None):
            raise ValueError("give either cron or timetable; leave the whole schedule out for manual runs only")
        if self.catchup and self.start is None:
            raise ValueError("catchup needs start, the day from which runs are made up for")
        if self.cron is not None:
            _check_cron(self.cron)
        if self.timetable is not None:
            if "timezone" in self.model_fields_set and self.start is None:
                raise ValueError("timezone is cron's and start's; a timetable takes its own from timetable_kwargs")
            _check_timetable(self)
        return self

    def make_timetable(self) -> Any:
        """Make the timetable that `timetable` names. Raises whatever its class raises."""
        return resolve_name(str(self.timetable))(*self.timetable_args, **self.timetable_kwargs)


#: Airflow's names for cron expressions.
CRON_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")


def _check_cron(expression: str) -> None:
    from croniter import croniter

    if expression.startswith("@"):
        if expression not in CRON_PRESETS:
            raise ValueError(f"{expression!r} is no cron preset; choose from {', '.join(CRON_PRESETS)}")
    # A sixth field would be seconds: a cluster a second.
    elif len(expression.split()) != 5 or not croniter.is_valid(expression):
        raise ValueError(f"{expression!r} is no cron expression; it has five fields, for example '0 2 * * *'")


def _check_timetable(schedule: Schedule) -> None:
    """Make and serialize a timetable as Airflow will.

    What somebody's class raises has to stop this one DAG and no other, and so has a class that Airflow does not know.
    """
    from airflow.sdk.bases.timetable import BaseTimetable
    from airflow.serialization.encoders import encode_timetable
    from airflow.timetables.base import Timetable

    path = schedule.timetable
    try:
        made = schedule.make_timetable()
    except Exception as error:
        raise ValueError(f"timetable {path} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(made, BaseTimetable | Timetable):
        # A TypeError would pass pydantic by and stop every simulation.
        raise ValueError(  # noqa: TRY004
            f"{path} is no timetable; name a class, for example airflow.sdk.MultipleCronTriggerTimetable"
        )
    try:
        encode_timetable(made)
    except Exception as error:
        raise ValueError(
            f"timetable {path} cannot be stored by Airflow: {type(error).__name__}: {error}; "
            "a class of your own has to be registered by a plugin of Airflow, and to serialize its arguments"
        ) from error


class Cluster(Model):
    """Which ParallelCluster template makes the cluster, the values for its placeholders, and who shares it."""

    profile: FileName = Field(description="A template in config/clusters/, without .yaml.")
    values: dict[str, str | int | float | bool] = Field(default_factory=dict)
    alternatives: tuple[Annotated[dict[str, str | int | float | bool], Field(min_length=1)], ...] = Field(
        (),
        description="Other values (subnet, instance type), tried one after the other when AWS has no capacity for the "
        "cluster or the subnet no address.",
    )
    shared_dir: str = Field(
        "/fsx", pattern=r"^/[a-z0-9_/-]+$", description="Where the template mounts its shared storage."
    )
    sharing: Literal["run", "pooled"] = Field(
        "run", description="'pooled': runs of all simulations with the same name of a pool share one cluster."
    )
    name: PoolName | None = Field(None, description="The name of the pool.")
    idle: Duration = Field(
        timedelta(minutes=15), description="A pool's cluster is deleted after so long without runs and jobs."
    )

    @model_validator(mode="after")
    def _is_a_pool_or_not(self) -> Cluster:
        if self.sharing == "pooled" and self.name is None:
            raise ValueError("sharing: pooled needs name, the name of the pool")
        if self.sharing == "run" and {"name", "idle"} & self.model_fields_set:
            raise ValueError("name and idle are a pool's; add sharing: pooled, or leave them out")
        if self.sharing == "pooled" and self.alternatives:
            raise ValueError("alternatives are for a cluster of the run's own: a pool's cluster is the same for all")
        return self

    @property
    def pool(self) -> str | None:
        """The name of the pool; None for a cluster of the run's own."""
        return self.name if self.sharing == "pooled" else None

    @property
    def template(self) -> Path:
        """The template's file."""
        return CLUSTERS_DIR / f"{self.profile}.yaml"


class Job(Model):
    """The job script and its typed parameters, which become the fields of the trigger form."""

    script: FileName = Field(description="A file in include/job_scripts/.")
    parameters: dict[ParameterName, Parameter] = Field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The script's file."""
        return JOB_SCRIPTS_DIR / self.script


class Resources(Model):
    """What the job asks Slurm for."""

    nodes: int = Field(1, ge=1, le=1000)
    tasks_per_node: int = Field(1, ge=1, le=1024)
    cpus_per_task: int = Field(1, ge=1, le=1024)
    walltime: Walltime
    partition: QueueName = "compute"
    memory: Memory | None = Field(None, description="Memory per node as sbatch --mem takes it, for example 4G.")
    gpus_per_node: int = Field(0, ge=0, le=16)


class InputFile(Model):
    """A file that is put beside the job before it starts."""

    source: str = Field(description="s3://bucket/key, or a file of this repository, for example include/inputs/in.lj.")
    target: FileName | None = Field(
        None, description="Its name in the job's folder; the source's own name if left out."
    )

    @model_validator(mode="after")
    def _can_be_found(self) -> InputFile:
        if self.source.startswith("s3://"):
            parts = urlsplit(self.source)
            if not parts.netloc or not parts.path.strip("/"):
                raise ValueError(f"{self.source!r} names no object; write s3://bucket/key")
            _file_name(self.name)
        elif "://" in self.source:
            raise ValueError(f"{self.source!r}: only s3:// and files of the repository can be inputs")
        else:
            _file_name(self.source)
            if not (PROJECT_ROOT / self.source).is_file():
                raise ValueError(f"there is no file {self.source} in the repository")
        return self

    @property
    def name(self) -> str:
        """The path it gets in the job's folder."""
        return self.target or PurePosixPath(urlsplit(self.source).path).name


class OnPremises(Model):
    """A site that gets a copy of the results by SFTP."""

    sftp_conn_id: ConnectionId
    directory: str = Field(pattern=r"^/[^\x00-\x1f]*$", description="An absolute folder on the site.")


class Export(Model):
    """Where the results go: s3://bucket/prefix/<cluster name>/."""

    bucket: BucketName | None = Field(None, description="The account's bucket (Variable hpc_site) if left out.")
    prefix: KeyPrefix | None = Field(None, description="The simulation's name if left out.")
    through_data_repository: bool = Field(
        False,
        description="The cluster's FSx for Lustre file system exports by itself, to the S3 prefix that the template"
        " links it to (DataRepositoryAssociations or ExportPath).",
    )
    on_premises: OnPremises | None = None
    hold_if_unverified: Duration = Field(
        timedelta(hours=24),
        description="How long the cluster is kept, and the alert stays up, when results could not be verified in S3.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Export:
        if self.through_data_repository and (self.bucket or self.prefix):
            raise ValueError("through_data_repository: the link of the file system says where to, not bucket or prefix")
        return self


class PostProcessing(Model):
    """A headless job on the cluster, where the data is, that leaves pictures."""

    script: FileName = Field(description="A file in include/job_scripts/.")
    pictures: tuple[Glob, ...] = Field(("*.png",), min_length=1, description="Globs in the job's folder.")
    walltime: Walltime = timedelta(minutes=10)
    inputs: tuple[InputFile, ...] = ()

    @property
    def path(self) -> Path:
        """The script's file."""
        return JOB_SCRIPTS_DIR / self.script


class Monitoring(Model):
    """The CloudWatch alarms that are watched while the job runs."""

    alarms: tuple[AlarmName, ...] = Field(
        ("HeadNode",), description="Names as ParallelCluster makes them, without the cluster's name before them."
    )
    on_alarm: Literal["warn", "fail"] = "warn"


class Pending(Model):
    """What is done when the job cannot start: AWS has no instances, or the cluster's compute fleet is stopped."""

    grace: Duration = Field(timedelta(minutes=30), description="How long it is waited before that.")
    on_no_capacity: Literal["fail", "wait", "next_partition"] = "fail"
    partitions: tuple[QueueName, ...] = Field(
        (), description="The job is moved to these one after the other: from spot to on-demand, for example."
    )
    on_stopped_fleet: Literal["fail", "wait", "start"] = Field(
        "fail", description="'start' asks ParallelCluster once to start it, or to end its protection."
    )

    @model_validator(mode="after")
    def _has_a_next_partition(self) -> Pending:
        if (self.on_no_capacity == "next_partition") != bool(self.partitions):
            raise ValueError("on_no_capacity: next_partition and partitions need each other")
        return self


class Checkpoint(Model):
    """Some time before the walltime the job gets a signal, saves its state and ends; it is then continued."""

    signal: Literal["USR1", "USR2", "INT", "HUP"] = "USR1"
    lead: Duration = Field(
        timedelta(minutes=5), description="How long before the walltime; Slurm may be a minute early."
    )
    continuations: int = Field(10, ge=1, le=1000, description="How often it is continued at the most.")


class KeepFor(Model):
    """Keep the cluster of a failed run for people to look at; it is deleted when the time is over."""

    keep_for: Duration


class Mail(Model):
    """Who gets a message by mail."""

    to: tuple[MailAddress, ...] = Field(min_length=1)
    sender: MailAddress | None = Field(None, description="The connection's own if left out.")
    connection: ConnectionId = Field("smtp_default", description="An Airflow connection of type smtp.")


class Notify(Model):
    """Who is told when a run fails or is late, an alarm goes off, a cluster is kept or cannot be deleted."""

    slack: ConnectionId | None = Field(None, description="An Airflow connection that is an incoming webhook of Slack.")
    mail: Mail | None = None
    sns: TopicArn | None = Field(None, description="The ARN of a topic of Amazon SNS.")

    @model_validator(mode="after")
    def _tells_somebody(self) -> Notify:
        if self.slack is None and self.mail is None and self.sns is None:
            raise ValueError("name at least one of slack, mail, sns; leave notify out to tell nobody")
        return self


class Connections(Model):
    """Airflow connections: credentials, endpoint, and the SSH user, key and port come from these alone."""

    aws: ConnectionId = Field(
        "aws_default", description="Another one has to be among aws_connections of the Variable hpc_site."
    )
    ssh: ConnectionId = "hpc_head_node"


class SimulationConfig(Model):
    """One simulation: one YAML file, one DAG."""

    name: SimulationName
    description: str = Field(min_length=1)
    owner: TagValue
    tags: tuple[DagTag, ...] = ()
    schedule: Schedule | None = None
    cluster: Cluster
    job: Job
    sweep: Sweep | None = Field(None, description="Many points at once: a Slurm job array, a job and a folder a point.")
    resources: Resources
    inputs: tuple[InputFile, ...] = ()
    outputs: tuple[Glob, ...] = Field(min_length=1, description="Globs in the job's folder; ** goes into folders.")
    export: Export | Literal["discard"] = Field(
        Export(),
        description="'discard' says that the results may be lost: the cluster is deleted without them.",
    )
    postprocess: PostProcessing | None = None
    pending: Pending = Pending()
    checkpoint: Checkpoint | None = Field(None, description="For a job that takes longer than one walltime.")
    monitoring: Monitoring = Monitoring()
    retries: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Retries of every task but hold_cluster and delete_cluster, instead of the policies' own.",
    )
    deadline: Duration = Field(timedelta(hours=12), description="How long a whole run may take, cluster included.")
    on_failure: Literal["delete"] | KeepFor = "delete"
    notify: Notify | None = Field(None, description="Instead of what the Variable hpc_site says.")
    connections: Connections = Connections()

    @field_validator("sweep")
    @classmethod
    def _points_fit(cls, sweep: Sweep | None, known: ValidationInfo) -> Sweep | None:
        if sweep is not None and "job" in known.data:
            check_points(sweep, known.data["job"].parameters)
        return sweep

    @model_validator(mode="after")
    def _files_exist(self) -> SimulationConfig:
        files = [("cluster.profile", self.cluster.template), ("job.script", self.job.path)]
        if self.postprocess is not None:
            files.append(("postprocess.script", self.postprocess.path))
        for where, file in files:
            if not file.is_file():
                others = sorted(other.name for other in file.parent.glob("*") if other.is_file())
                raise ValueError(
                    f"{where}: there is no {file.relative_to(PROJECT_ROOT)}{did_you_mean(file.name, others)}"
                )
        if self.resources.walltime >= self.deadline:
            raise ValueError("deadline: must be longer than resources.walltime, for the cluster takes time as well")
        if self.checkpoint is not None and self.checkpoint.lead >= self.resources.walltime:
            raise ValueError("checkpoint.lead: must be shorter than resources.walltime")
        if self.export == "discard" and self.postprocess is not None:
            raise ValueError("postprocess: its pictures would be lost with export: discard; leave out one of both")
        names = [file.name for file in self.inputs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"inputs: {', '.join(sorted(twice))} is the target of more than one input")
        return self

    @model_validator(mode="after")
    def _is_linked(self) -> SimulationConfig:
        if self.export != "discard" and self.export.through_data_repository:
            template = self.cluster.template.read_text(encoding="utf-8")
            if not any(name in template for name in ("DataRepositoryAssociations", "ExportPath")):
                raise ValueError(
                    f"export.through_data_repository: {self.cluster.template.name} links no file system to S3"
                    " (DataRepositoryAssociations or ExportPath)"
                )
        return self

    @model_validator(mode="after")
    def _fits_its_pool(self) -> SimulationConfig:
        if self.cluster.pool is None:
            return self
        if self.cluster.idle >= self.deadline:
            raise ValueError("cluster.idle: must be shorter than deadline, for the last run waits that long")
        # It is as large as all its simulations say, not as the one needs that comes first.
        size = self.cluster.values.get("nodes")
        if size is None and "${nodes" in self.cluster.template.read_text(encoding="utf-8"):
            raise ValueError("cluster.values: needs nodes, how many nodes the shared cluster can have")
        if isinstance(size, int) and self.resources.nodes > size:
            raise ValueError(f"resources.nodes: the shared cluster has {size} nodes (cluster.values), not so many")
        return self


class Site(Model):
    """The facts of an AWS account that every simulation shares: Airflow's Variable `hpc_site`, a JSON object."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    head_node_subnet_id: str = Field(pattern=r"^subnet-[0-9a-f]+$")
    compute_subnet_id: str = Field(pattern=r"^subnet-[0-9a-f]+$")
    key_name: str = Field(min_length=1)
    bucket: BucketName
    notify: Notify | None = None
    #: Beside `aws_default`: the connections of whose accounts a janitor looks after the clusters.
    aws_connections: tuple[ConnectionId, ...] = ()


# ------------------------------------------------------------------------------------------------ reading files
class SimulationFileError(ConfigurationError):
    """A simulation file that cannot become a DAG."""

    def __init__(self, file: Path, problems: list[str]) -> None:
        self.file = file
        self.problems = problems
        shown = file.relative_to(PROJECT_ROOT) if file.is_relative_to(PROJECT_ROOT) else file
        super().__init__("\n".join(f"{shown}: {problem}" for problem in problems))


def _read_yaml(text: str) -> object:
    """Read YAML with libyaml, ten times as quick; what it refuses again without, for a better message."""
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError):
        return yaml.safe_load(text)


def load_simulation(file: Path) -> SimulationConfig:
    """Read one simulation. Raises SimulationFileError, which lists every problem of the file at once."""
    try:
        document = _read_yaml(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise SimulationFileError(file, [f"{where}: not YAML: {error.problem}"]) from error
    except (yaml.YAMLError, ValueError, OSError) as error:  # ValueError: not UTF-8, or a date such as 2026-02-30
        raise SimulationFileError(file, [f"cannot be read: {error}"]) from error
    if not isinstance(document, Mapping):
        raise SimulationFileError(file, ["must be a mapping of keys such as name, cluster and job"])
    try:
        simulation = SimulationConfig.model_validate(document)
    except ValidationError as error:
        raise SimulationFileError(file, [describe(problem, _known_keys()) for problem in error.errors()]) from error
    except UnicodeEncodeError as error:  # YAML can write half a character, which nothing else takes
        raise SimulationFileError(file, [f"{error.object!r} is not valid Unicode: {error.reason}"]) from error
    if simulation.name != file.stem:
        raise SimulationFileError(file, [f"name = {simulation.name!r}: must be the file's name, {file.stem!r}"])
    return simulation


def load_simulations(
    directory: Path = SIMULATIONS_DIR, only: str | None = None
) -> Iterator[SimulationConfig | SimulationFileError]:
    """Read every simulation of a folder in the order of their names: a model, or the error that says what is wrong.

    `only` names a single one.
    """
    for file in sorted(directory.glob(f"{only or '*'}.y*ml")):
        try:
            yield load_simulation(file)
        except SimulationFileError as error:
            yield error
        except Exception as error:  # whatever it is, it is this file's alone
            yield SimulationFileError(file, [f"cannot be read: {type(error).__name__}: {error}"])


def _known_keys() -> set[str]:
    models: list[type[BaseModel]] = [
        *(SimulationConfig, Schedule, Cluster, Job, Resources, InputFile, OnPremises, Export, PostProcessing),
        *(
            Monitoring,
            Pending,
            Checkpoint,
            KeepFor,
            Mail,
            Notify,
            Connections,
            Sweep,
            *get_args(get_args(Parameter)[0]),
        ),
    ]
    return {name for model in models for name in model.model_fields}

"""What is sent to Slurm: a user's job script, its parameters and its resources, rendered without running any of them.

The user's script is plain bash for sbatch. It is not changed: a wrapper (`wrapper.sh`) that carries the script's own
leading `#SBATCH` lines runs it. Resources are options of the sbatch command line, which win over those lines.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hpc.durations import parse_walltime
from hpc.errors import ConfigurationError

#: Linux takes at most 128 KiB for one environment variable (execve(2)).
MAX_VALUE_BYTES = 128 * 1024 - 256
_WRAPPER = Path(__file__).with_name("wrapper.sh")
_DIRECTIVE = re.compile(r"#SBATCH\s")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Directives that would break the one record of one job.
_REFUSED = {
    **dict.fromkeys(("-a", "--array"), "write a sweep: its points become a job array"),
    **dict.fromkeys(("-W", "--wait"), "sbatch would not come back before the job's end"),
    "--test-only": "the job would never be submitted",
    "--wrap": "the script itself is the job",
}


# ------------------------------------------------------------------------------------------------ resources
@dataclass(frozen=True)
class SlurmRequest:
    """What a job asks Slurm for; None leaves it to the script's own directives and the partition's defaults.

    `walltime` is `[days-]hours:minutes:seconds`, `memory` is per node as `sbatch --mem` takes it.
    """

    nodes: int | None = None
    tasks_per_node: int | None = None
    cpus_per_task: int | None = None
    walltime: str | None = None
    partition: str | None = None
    memory: str | None = None
    gpus_per_node: int | None = None

    @classmethod
    def from_mapping(cls, resources: Mapping[str, Any]) -> SlurmRequest:
        """Read the `resources` of an operator. Raises ConfigurationError for what sbatch cannot take."""
        known = [field.name for field in fields(cls)]
        for name in resources:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                raise ConfigurationError(
                    f"resources.{name}: there is no such resource",
                    remedy=f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}",
                )
        return cls(**{name: _checked(name, value) for name, value in resources.items() if value is not None})


#: Signals that a job may get before its walltime.
SIGNALS = ("USR1", "USR2", "INT", "HUP")
_NUMBERS = {"nodes": 1, "tasks_per_node": 1, "cpus_per_task": 1, "gpus_per_node": 0}
_WORDS = {"partition": r"[A-Za-z0-9_,.-]+", "memory": r"\d+[KMGT]?", "walltime": r"[\d:-]+"}
#: Resource and sbatch's option for it.
_OPTIONS = (
    ("nodes", "--nodes"),
    ("tasks_per_node", "--ntasks-per-node"),
    ("cpus_per_task", "--cpus-per-task"),
    ("walltime", "--time"),
    ("partition", "--partition"),
    ("memory", "--mem"),
    ("gpus_per_node", "--gpus-per-node"),
)


def _checked(name: str, value: Any) -> Any:
    if name in _NUMBERS:
        least = _NUMBERS[name]
        if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)) or int(value) < least:
            raise ConfigurationError(f"resources.{name} = {value!r}: must be a whole number from {least}")
        return int(value)
    text = str(value)
    if not re.fullmatch(_WORDS[name], text):
        raise ConfigurationError(f"resources.{name} = {value!r}: sbatch cannot take it")
    if name == "walltime":
        try:
            parse_walltime(text)
        except ValueError as error:
            raise ConfigurationError(f"resources.walltime: {error}") from error
    return text


def sbatch_options(request: SlurmRequest, directory: str, directives: Sequence[str] = ()) -> list[str]:
    """Build the options of the sbatch command line; `=` binds each value, so none can pass for an option.

    A job is put back into the queue when a node is lost, unless the script's own directives say otherwise; then it goes
    on writing to the same log.
    """
    values = [(option, getattr(request, field)) for field, option in _OPTIONS]
    options = [f"{option}={value}" for option, value in values if value]
    options += [f"--chdir={directory}", "--open-mode=append"]
    if not any("requeue" in directive for directive in directives):
        options.append("--requeue")
    return options


@dataclass(frozen=True)
class Checkpoint:
    """`lead` seconds before its walltime a job gets `signal`; ending then, it is put back, so many times at most."""

    signal: str
    lead: int
    continuations: int

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Checkpoint:
        """Read the `checkpoint` of an operator. Raises ConfigurationError."""
        try:
            checkpoint = cls(str(value["signal"]), int(value["lead"]), int(value["continuations"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"checkpoint = {value!r}: cannot be read: {error!r}",
                remedy='for example {"signal": "USR1", "lead": 300, "continuations": 10}',
            ) from error
        if checkpoint.signal not in SIGNALS or checkpoint.lead < 1 or checkpoint.continuations < 1:
            raise ConfigurationError(
                f"checkpoint = {value!r}: lead and continuations are at least 1, signal is one of {', '.join(SIGNALS)}"
            )
        return checkpoint

    def options(self) -> list[str]:
        """Build sbatch's options."""
        return [f"--signal=B:{self.signal}@{self.lead}"]

    def render(self) -> str:
        """Return what the wrapper reads."""
        return f"{self.signal} {self.continuations}\n"


# ------------------------------------------------------------------------------------------------ script
def leading_directives(script: str) -> list[str]:
    """Return the `#SBATCH` lines that sbatch would read: those before the first command (sbatch(1)).

    Raises ConfigurationError for a script without a first line `#!…`, or with a directive that cannot work here.
    """
    lines = script.splitlines()
    if not lines or not lines[0].startswith("#!"):
        raise ConfigurationError(
            "the job script does not begin with #!", remedy="write #!/bin/bash as its first line, as sbatch wants it"
        )
    if "\r\n" in script:
        raise ConfigurationError("the job script has Windows line ends", remedy="convert it: dos2unix, or your editor")
    directives = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            break
        if _DIRECTIVE.match(line):
            directives.append(line.rstrip())
            _refuse(line)
    return directives


def _refuse(directive: str) -> None:
    for word in directive.split()[1:]:
        option = word.split("=", 1)[0]
        if option in _REFUSED:
            raise ConfigurationError(
                f"the job script's directive {directive.strip()!r} cannot be used: {_REFUSED[option]}",
                remedy="take it out of the script",
            )


def render_job(directives: Sequence[str]) -> str:
    """Return the script that sbatch gets: the user's directives and the wrapper."""
    return "\n".join(["#!/bin/bash", *directives, ""]) + _WRAPPER.read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------ parameters
def render_parameters(parameters: Mapping[str, Any]) -> str:
    """Return the shell file that exports each parameter as PARAM_<NAME>, byte for byte.

    Numbers are written as JSON writes them, a boolean as `true` or `false`, None as an empty text, lists and mappings
    as JSON. Raises ConfigurationError for a name that is no identifier, and for what an environment variable cannot
    carry: a NUL, half of a surrogate pair, more than 128 KiB.
    """
    lines = {}
    for name, value in parameters.items():
        if not _PARAMETER.fullmatch(name):
            raise ConfigurationError(
                f"parameter {name!r} cannot become an environment variable",
                remedy="use letters, digits and underscores only, and begin with a letter",
            )
        variable = f"PARAM_{name.upper()}"
        if variable in lines:
            raise ConfigurationError(f"two parameters become {variable}", remedy="rename one of them")
        lines[variable] = f"export {variable}={shlex.quote(_text(name, value))}\n"
    return "".join(lines.values())


def render_points(points: Sequence[Mapping[str, Any]]) -> str:
    """Return the shell file that exports the parameters of point $POINT of a sweep, as `render_parameters` does."""
    cases = "".join(f"{index})\n{render_parameters(point)};;\n" for index, point in enumerate(points))
    return f'case "$POINT" in\n{cases}esac\n'


def _text(name: str, value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"parameter {name} = {value}: is no finite number")
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    if "\0" in text:
        raise ConfigurationError(f"parameter {name} contains a NUL character", remedy="remove it")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"parameter {name} is not valid Unicode: {error.reason}") from error
    if size > MAX_VALUE_BYTES:
        raise ConfigurationError(
            f"parameter {name} has {size:,} bytes; an environment variable can have {MAX_VALUE_BYTES:,}",
            remedy="pass it as an input file",
        )
    return text

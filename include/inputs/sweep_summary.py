"""Gather the numbers that the points of a sweep reported into one table and one picture.

Reads ``points.csv`` (``point`` and the swept parameters) and ``points/<point>/numbers`` (lines ``name=value``, appended
by the job script), and writes ``summary.csv`` and ``summary.png``. A point may have reported nothing, or a line may be
damaged: both are counted, and neither stops the rest. Of a name that is reported twice the last value counts, for a
point that was put back into the queue has begun again.

Runs on Python 3.9, the interpreter of Amazon Linux 2023, so it stays with that language.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize

MOST_PANELS = 9
"""Numbers in the picture; the table has all."""

MOST_CURVES = 8
"""Curves in one panel that an eye can still tell apart; more values of a second parameter make a map."""


@dataclass(frozen=True)
class Table:
    """The sweep: parameters as they were written, and numbers, not a number where nothing was reported."""

    points: list[str]
    parameters: dict[str, list[str]]
    numbers: dict[str, np.ndarray]
    damaged: int

    @property
    def reported(self) -> int:
        """How many points reported at least one number."""
        if not self.numbers:
            return 0
        return int(np.any([np.isfinite(column) for column in self.numbers.values()], axis=0).sum())


# ------------------------------------------------------------------------------------------------ the table
def read_numbers(file: Path) -> tuple[dict[str, float], int]:
    """Return the numbers of one point, and how many lines of its file are none."""
    numbers, damaged = {}, 0
    try:
        text = file.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return {}, 0
    for line in text.split("\n"):
        name, separator, value = line.partition("=")
        try:
            if name.strip() and separator:
                numbers[name.strip()] = float(value)
                continue
        except ValueError:
            pass
        damaged += bool(line.strip())
    return numbers, damaged


def read_table(directory: Path) -> Table:
    """Read the points and what they reported. Raises SystemExit for a folder without a sweep."""
    try:
        with (directory / "points.csv").open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError) as error:
        raise SystemExit(f"points.csv, the table of a sweep's points, cannot be read: {error}") from error
    points = [row[0] for row in rows]
    found = [read_numbers(directory / "points" / point / "numbers") for point in points]
    names = list(dict.fromkeys(name for numbers, _ in found for name in numbers))
    return Table(
        points=points,
        parameters={name: [row[column] for row in rows] for column, name in enumerate(header) if column > 0},
        numbers={name: np.array([numbers.get(name, math.nan) for numbers, _ in found]) for name in names},
        damaged=sum(damaged for _, damaged in found),
    )


def write_table(table: Table, file: Path) -> None:
    """Write the parameters and then the numbers, a line a point; what is missing or no number is an empty cell."""
    with file.open("w", newline="", encoding="utf-8") as target:
        rows = csv.writer(target, lineterminator="\n")
        # A job may report a parameter again: two columns of one name would be read as one.
        reported = [f"{name} (reported)" if name in table.parameters else name for name in table.numbers]
        rows.writerow(["point", *table.parameters, *reported])
        for index, point in enumerate(table.points):
            numbers = [float(column[index]) for column in table.numbers.values()]
            rows.writerow(
                [
                    point,
                    *(column[index] for column in table.parameters.values()),
                    *(repr(number) if math.isfinite(number) else "" for number in numbers),
                ]
            )


# ------------------------------------------------------------------------------------------------ the axes
@dataclass(frozen=True)
class Parameter:
    """A swept parameter as an axis: where each point lies, and what the places are called if they are no numbers."""

    name: str
    places: np.ndarray
    labels: tuple[str, ...] = ()

    @property
    def values(self) -> np.ndarray:
        """The different places, sorted."""
        return np.unique(self.places[np.isfinite(self.places)])

    @property
    def is_geometric(self) -> bool:
        """Whether the values grow by a factor, not by a step: then a logarithmic axis spreads them evenly."""
        values = self.values
        if self.labels or len(values) < 3 or values[0] <= 0:
            return False
        steps, factors = np.diff(values), np.diff(np.log(values))
        return bool(factors.std() / factors.mean() < 0.5 * steps.std() / steps.mean())

    def text(self, value: float) -> str:
        """Return how a value is written."""
        return shortened(self.labels[int(value)], 16) if self.labels else f"{value:.4g}"

    def goes_with(self, other: Parameter) -> bool:
        """Whether the one rises or falls with the other, as in a zip: they are one axis then."""
        pairs = np.unique(np.stack([other.places, self.places], axis=1), axis=0)
        steps = np.diff(pairs, axis=0)
        return bool(np.all(steps[:, 0] > 0) and (np.all(steps[:, 1] > 0) or np.all(steps[:, 1] < 0)))


def parameters_of(table: Table) -> list[Parameter]:
    """Return the parameters that have more than one value; texts and switches stand side by side as they come."""
    found = []
    for name, column in table.parameters.items():
        if len(set(column)) > 1:
            try:
                places = np.array([float(cell) if cell else math.nan for cell in column])
                labels: tuple[str, ...] = ()
            except ValueError:
                labels = tuple(dict.fromkeys(column))
                places = np.array([labels.index(cell) for cell in column], dtype=float)
            found.append(Parameter(shortened(name), places, labels))
    return found or [Parameter("point", np.arange(len(table.points), dtype=float))]


def shortened(text: str, longest: int = 40) -> str:
    """Return a text that fits where it stands; a dollar would begin mathematics."""
    text = " ".join(text.split())
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.replace("$", r"\$")


# ------------------------------------------------------------------------------------------------ the picture
@dataclass(frozen=True)
class Plan:
    """How the picture is laid out: what is drawn along, what makes curves or rows, and what the mean is taken over."""

    kind: str
    along: Parameter
    across: Parameter | None = None
    together: tuple[Parameter, ...] = ()
    rest: tuple[Parameter, ...] = ()

    @classmethod
    def of(cls, parameters: list[Parameter]) -> Plan:
        """Choose by how many values there are, and whether they fill a grid."""
        first, *others = parameters
        together = tuple(other for other in others if other.goes_with(first))
        free = [other for other in others if other not in together]
        if not free:
            return cls("curves", first, together=together)
        second, rest = free[0], tuple(free[1:])
        # Few values make curves; texts cannot be joined by a line, so they are not drawn along.
        along, across = sorted((first, second), key=lambda one: (bool(one.labels), -len(one.values)))
        pairs = np.unique(np.stack([first.places, second.places], axis=1), axis=0)
        if len(across.values) <= MOST_CURVES and len(along.values) > 1:
            return cls("curves", along, across, together, rest)
        filled = len(pairs) / (len(first.values) * len(second.values))
        return cls("map" if filled > 0.5 else "dots", first, second, together, rest)

    @property
    def title(self) -> str:
        """Say what the numbers are drawn against."""
        swept = [f"{self.along.name} and {self.across.name}" if self.across else self.along.name]
        swept += [f"{', '.join(one.name for one in self.together)} with it"] * bool(self.together)
        swept += [f"mean over {', '.join(one.name for one in self.rest)}"] * bool(self.rest)
        return f"Sweep over {', '.join(swept)}"


def draw(table: Table, picture: Path) -> None:
    """Draw every number against the swept parameters: curves against one, curves or a map against two."""
    plan = Plan.of(parameters_of(table))
    names = [name for name, column in table.numbers.items() if np.isfinite(column).any()]
    shown = names[:MOST_PANELS]
    # A map has a scale of its own beside it, and needs the room.
    most = 2 if plan.kind != "curves" or len(shown) == 4 else 3
    columns = max(1, min(most, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = plt.figure(figsize=(9.0, 1.2 + {1: 4.4, 2: 3.2, 3: 2.9}[columns] * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, shown):  # noqa: B905  # Python 3.9 has no strict
        axes.set_title(shortened(name))
        {"curves": draw_curves, "map": draw_map, "dots": draw_dots}[plan.kind](axes, plan, table.numbers[name])
    if not shown:
        panels[0].text(0.5, 0.5, "no point has reported a number", ha="center", fontsize=13)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles and plan.across is not None:
        in_a_row = MOST_CURVES if max(map(len, labels)) <= 6 else 4
        figure.legend(handles, labels, title=plan.across.name, loc="outside lower right", ncols=in_a_row)
    figure.suptitle(plan.title, x=0.01, ha="left")
    figure.supxlabel(left_out(table, len(names)), x=0.01, ha="left", fontsize=9, color="#666666")
    figure.savefig(picture)
    plt.close(figure)


def left_out(table: Table, numbers: int) -> str:
    """Return the line that says what is not in the picture; empty when all is."""
    silent = len(table.points) - table.reported
    said = [f"{silent} of {len(table.points)} points reported no number"] * bool(silent)
    said += [f"{numbers - MOST_PANELS} more numbers are in summary.csv"] * (numbers > MOST_PANELS)
    return "; ".join(said)


def mean_at(number: np.ndarray, *parameters: Parameter) -> np.ndarray:
    """Return a row a place: where it lies, and the mean of all points there.

    A place is left out when one of its points has no number: the mean of the others would be that of another sweep.
    """
    table = np.stack([*(one.places for one in parameters), np.where(np.isfinite(number), number, math.nan)], axis=1)
    table = table[np.isfinite(table[:, :-1]).all(axis=1)]
    places, index, count = np.unique(table[:, :-1], axis=0, return_inverse=True, return_counts=True)
    means = np.column_stack([places, np.bincount(index.ravel(), table[:, -1], len(places)) / count])
    return means[np.isfinite(means[:, -1])]


def draw_curves(axes: Axes, plan: Plan, number: np.ndarray) -> None:
    """Draw a number along one parameter, a curve for each value of the other."""
    across = plan.across
    if across is None:
        curves = {"": mean_at(number, plan.along)}
    else:
        rows = mean_at(number, plan.along, across)
        curves = {across.text(value): rows[rows[:, 1] == value][:, [0, 2]] for value in across.values}
    # Darker step by step: the brightest yellow would vanish on white. Markers tell the curves apart without colour.
    shades = plt.get_cmap("viridis")(np.linspace(0.85, 0.0, len(curves))) if len(curves) > 1 else ["#1f5a8c"]
    size = 8 if plan.along.labels else 4.5 if len(plan.along.values) <= 60 else 0
    for (label, curve), shade, marker in zip(curves.items(), shades, "osD^vPX*"):  # noqa: B905
        line = 0 if plan.along.labels else 1.6
        axes.plot(*curve.T, label=label or None, color=shade, marker=marker, markersize=size, linewidth=line)
    mark(axes.xaxis, plan.along)
    if is_wide(number):
        axes.set_yscale("log")


def draw_map(axes: Axes, plan: Plan, number: np.ndarray) -> None:
    """Draw a number as the colour of a cell for each pair of values; where there is none, the ground shows."""
    along, across = plan.along, plan.across
    assert across is not None  # noqa: S101
    cells = np.full((len(across.values), len(along.values)), math.nan)
    for x, y, mean in mean_at(number, along, across):
        cells[np.searchsorted(across.values, y), np.searchsorted(along.values, x)] = mean
    axes.grid(False)
    axes.set_facecolor("#dddddd")
    drawn = axes.imshow(
        cells, origin="lower", aspect="auto", cmap="viridis", norm=LogNorm() if is_wide(number) else Normalize()
    )
    for axis, parameter in ((axes.xaxis, along), (axes.yaxis, across)):
        ticks = np.arange(0, len(parameter.values), math.ceil(len(parameter.values) / 7))
        axis.set_ticks(ticks, [parameter.text(parameter.values[tick]) for tick in ticks])
        axis.set_label_text(parameter.name)
    axes.figure.colorbar(drawn, ax=axes, pad=0.02)


def draw_dots(axes: Axes, plan: Plan, number: np.ndarray) -> None:
    """Draw a number as the colour of a dot for each point: the points fill no grid."""
    assert plan.across is not None  # noqa: S101
    x, y, mean = mean_at(number, plan.along, plan.across).T
    norm = LogNorm() if is_wide(number) else Normalize()
    drawn = axes.scatter(x, y, c=mean, cmap="viridis", norm=norm, s=28, edgecolors="#555555", linewidths=0.4)
    mark(axes.xaxis, plan.along)
    mark(axes.yaxis, plan.across)
    axes.figure.colorbar(drawn, ax=axes, pad=0.02)


def mark(axis: Axis, parameter: Parameter) -> None:
    """Name an axis, and put its ticks where they can be read."""
    axis.set_label_text(parameter.name)
    if parameter.labels:
        texts = [parameter.text(value) for value in parameter.values]
        upright = axis.axis_name == "y" or len("".join(texts)) < 24
        axis.set_ticks(parameter.values, texts, **({} if upright else {"rotation": 30, "ha": "right"}))
        axis.axes.margins(0.15)
    elif parameter.is_geometric:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        if len(parameter.values) <= MOST_CURVES:
            axis.set_ticks(parameter.values, [parameter.text(value) for value in parameter.values])
            axis.set_ticks([], minor=True)


def is_wide(number: np.ndarray) -> bool:
    """Whether a number goes over so many orders of magnitude that only a logarithmic scale shows the small ones."""
    finite = number[np.isfinite(number)]
    return bool(finite.min() > 0 and finite.max() / finite.min() > 1000)


def main() -> None:
    """Write the table and the picture of the sweep in the working directory."""
    style = Path("picture.mplstyle")
    if style.exists():
        plt.style.use(str(style))
    table = read_table(Path())
    write_table(table, Path("summary.csv"))
    draw(table, Path("summary.png"))
    print(f"{table.reported} of {len(table.points)} points reported numbers: {', '.join(table.numbers) or 'none'}")
    if table.damaged:
        print(f"{table.damaged} lines in points/*/numbers are not name=value with a number; they are left out")


if __name__ == "__main__":
    main()

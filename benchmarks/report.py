"""Rows of figures beside their targets: as JSON, and as the table of `docs/benchmarks.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Figure = float | int | str | None


@dataclass(frozen=True)
class Row:
    """One figure of ours; `target` is `<= 6` or `>= 0.8`; `peer` has the figure of each peer. A text is a bound."""

    name: str
    unit: str
    figure: Figure
    target: str | None = None
    peer: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else is_met(self.target, self.figure)

    def as_dict(self) -> dict[str, object]:
        """Return what the file holds."""
        values = asdict(self) | {"met": self.met, "figure": rounded(self.figure)}
        values["peer"] = {name: rounded(figure) for name, figure in self.peer.items()}
        return {name: values[name] for name in ("name", "unit", "target", "figure", "peer", "met")}


def is_met(target: str, figure: Figure) -> bool:
    """Compare a figure with a target. What was not measured, or only bounded, does not meet it."""
    relation, _, bound = target.partition(" ")
    if not isinstance(figure, int | float):
        return False
    return figure <= float(bound) if relation == "<=" else figure >= float(bound)


def rounded(figure: Figure) -> Figure:
    """Return three digits of it: more would be noise."""
    return float(f"{figure:.3g}") if isinstance(figure, float) else figure


def shown(figure: Figure) -> str:
    """Return a figure as a person reads it."""
    figure = rounded(figure)
    if figure is None:
        return "-"
    if isinstance(figure, str):
        return figure
    return f"{figure:,.0f}" if figure >= 100 or figure == int(figure) else f"{figure:g}"


def table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown, with a column a peer."""
    peers = list(dict.fromkeys(name for row in rows for name in row.peer))
    head = ["", "unit", "target", "ours", *peers, "met"]
    body = [
        [
            row.name,
            row.unit,
            row.target or "",
            shown(row.figure),
            *(shown(row.peer[name]) if name in row.peer else "" for name in peers),
            {True: "yes", False: "**no**", None: ""}[row.met],
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [head, ["-" * width for width in widths], *body]
    ]
    return "\n".join(lines)


def write_json(rows: Sequence[Row], file: Path) -> None:
    """Write the rows, a line each: so a change shows in a diff."""
    lines = ",\n  ".join(json.dumps(row.as_dict(), ensure_ascii=False) for row in rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"[\n  {lines}\n]\n", encoding="utf-8")


def read_json(file: Path) -> list[Row]:
    """Return the rows that `write_json` wrote; none if it never did."""
    documents = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return [Row(**{name: value for name, value in each.items() if name != "met"}) for each in documents]


def put_between(text: str, mark: str, content: str) -> str:
    """Replace what stands between the comments `mark` and `end of mark` of a page."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the page has no {begin} … {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"

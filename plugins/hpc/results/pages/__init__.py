"""Pages that lie beside the results: each is one file that needs nothing else, so it opens wherever it is copied to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

# Names and numbers of a run are nothing to trust: all of them are escaped.
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def render(template: str, *, title: str, **values: Any) -> str:
    """Return the page that a template of this folder makes."""
    return _TEMPLATES.get_template(template).render(title=title, **values)

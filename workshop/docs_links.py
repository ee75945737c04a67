"""Do the links of the Markdown pages lead somewhere? Relative links and anchors only, no network."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from workshop import ROOT

LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
ANCHOR = re.compile(r"""<a\s+(?:id|name)=["']([^"']+)""")
CODE = re.compile(r"^(```|~~~).*?^\1\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def pages(root: Path) -> list[Path]:
    """Return the project's own Markdown pages."""
    return [
        page
        for page in sorted(root.rglob("*.md"))
        if not any(part.startswith(".") for part in page.relative_to(root).parts)
    ]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings, and those written by hand."""
    found: set[str] = set(ANCHOR.findall(text))
    for heading in HEADING.findall(re.sub(r"^(```|~~~).*?^\1\s*$", "", text, flags=re.MULTILINE | re.DOTALL)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


def links(text: str) -> list[str]:
    """Return where the links of a page lead; code is left out."""
    return LINK.findall(CODE.sub("", text))


def broken_links(page: Path) -> Iterator[str]:
    """Yield what is wrong with the links of one page."""
    for link in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{link}: there is no {target}"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            yield f"{link}: {target.name} has no heading of that name"


def main() -> int:
    """Print every broken link."""
    problems = [f"{page.relative_to(ROOT)}: {problem}" for page in pages(ROOT) for problem in broken_links(page)]
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

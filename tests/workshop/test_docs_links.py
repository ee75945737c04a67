from pathlib import Path

from workshop.docs_links import anchors, broken_links, links

PAGE = """\
# The *one* page: `make demo`, and more!
## Twice
## Twice
### A [link](other.md) in it
<a id="by-hand"></a>
```
# no heading
[no](link.md)
```
Good: [a](other.md), [b](other.md#there), [c](#twice-1), [d](https://example.org/x), [![img](p.png)](folder/),
`[e](no.md)`.
Bad: [x](missing.md), [y](other.md#nowhere), [z](#neither).
"""


def test_anchors_are_those_that_github_makes() -> None:
    assert anchors(PAGE) == {"the-one-page-make-demo-and-more", "twice", "twice-1", "a-link-in-it", "by-hand"}


def test_links_in_code_are_no_links() -> None:
    assert "link.md" not in links(PAGE)
    assert "no.md" not in links(PAGE)


def test_only_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    (tmp_path / "other.md").write_text("# There\n")
    (tmp_path / "folder").mkdir()

    assert [problem.split(":")[0] for problem in broken_links(tmp_path / "page.md")] == [
        "missing.md",
        "other.md#nowhere",
        "#neither",
    ]

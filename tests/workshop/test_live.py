import io

from rich.console import Console

from workshop.live import LineView, TableView, render
from workshop.rest import TaskProgress

BEFORE = [TaskProgress("create_cluster", "running", 1.0, 1), TaskProgress("run_job", "none", None, 0)]
AFTER = [TaskProgress("create_cluster", "success", 12.34, 1), TaskProgress("run_job", "deferred", 0.5, 2)]


def test_lines_tell_each_change_once() -> None:
    lines: list[str] = []
    view = LineView(lines.append)
    for tasks in (BEFORE, BEFORE, AFTER):
        view.show(tasks)

    assert [line.split("s  ", 1)[1] for line in lines] == [
        " 0/2  create_cluster          running",
        " 1/2  create_cluster          success after 12.3 s",
        " 1/2  run_job                 deferred",
    ]


def test_the_table_shows_every_task_its_attempt_and_the_progress() -> None:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(render("lj_melt  manual__1", AFTER, 42.0))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()

    assert "lj_melt  manual__1" in text
    assert "✓  create_cluster" in text
    assert "deferred (attempt 2)" in text
    assert "1/2 tasks, 42 s" in text


def test_the_table_is_drawn_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with TableView("lj_melt", console) as view:
        view.show(AFTER)
    assert isinstance(console.file, io.StringIO)

    assert "run_job" in console.file.getvalue()

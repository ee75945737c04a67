import pytest

from workshop.report import DemoReport, Saved, picture_uris
from workshop.rest import TaskProgress

SAVED = Saved(
    receipt_uri="s3://bucket/run/receipt.json",
    page_uri="s3://bucket/run/receipt.html",
    objects=("s3://bucket/run/log.lammps", "s3://bucket/run/energy.PNG"),
    summary={"files": 2, "bytes": 1234, "verified": True},
)
GOOD = DemoReport(
    dag_id="lj_melt",
    run_id="manual__1",
    state="success",
    tasks=[TaskProgress("run_job", "success", 3.5, 1)],
    results=SAVED,
    pictures=SAVED,
)


def test_report_of_a_good_run() -> None:
    assert GOOD.problems == []
    assert GOOD.as_dict() == {
        "dag_run": {"dag_id": "lj_melt", "id": "manual__1", "state": "success"},
        "tasks": [{"task_id": "run_job", "state": "success", "seconds": 3.5}],
        "results": ["s3://bucket/run/log.lammps", "s3://bucket/run/energy.PNG"],
        "pictures": ["s3://bucket/run/energy.PNG"],
        "receipt": {"files": 2, "bytes": 1234, "verified": True, "uri": "s3://bucket/run/receipt.json"},
        "leftovers": [],
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"state": "failed"}, "the DAG run ended as failed"),
        ({"results": None}, "there is no receipt of results"),
        (
            {"results": Saved("s3://b/r", "s3://b/p", (), {"verified": False})},
            "the receipt of the results is not verified",
        ),
        ({"leftovers": ["EC2 instance i-1 (running)"]}, "left over: EC2 instance i-1 (running)"),
    ],
)
def test_each_of_these_fails_the_demo(change: dict, problem: str) -> None:
    assert DemoReport(**vars(GOOD) | change).problems == [problem]


def test_picture_uris() -> None:
    assert picture_uris(["s3://b/a.png", "s3://b/index.html", "s3://b/png", "s3://b/c.d/e.svg"]) == [
        "s3://b/a.png",
        "s3://b/c.d/e.svg",
    ]

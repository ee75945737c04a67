from workshop.rest import in_order, log_lines


def test_tasks_stand_after_those_they_wait_for_and_chains_stay_together() -> None:
    downstream = {
        "connect": ["submit"],
        "create": ["wait", "delete"],
        "delete": [],
        "pictures": ["empty"],
        "empty": ["delete"],
        "export": ["pictures", "empty"],
        "render": ["create", "delete"],
        "run": ["export"],
        "submit": ["run", "watch"],
        "wait": ["connect"],
        "watch": ["delete"],
    }

    order = in_order(downstream)

    assert order[:6] == ["render", "create", "wait", "connect", "submit", "run"]
    assert order[-1] == "delete"
    assert all(order.index(task) < order.index(later) for task in downstream for later in downstream[task])


def test_tasks_without_arrows_stay_as_they_are() -> None:
    assert in_order({"b": [], "a": [], "c": []}) == ["b", "a", "c"]


def test_a_log_message_with_an_exception_shows_it() -> None:
    # A message of Airflow 3.3.2's log API, shortened.
    message = {
        "timestamp": "2026-11-23T02:48:17.880387Z",
        "event": "Task failed with exception",
        "level": "error",
        "error_detail": [{"exc_type": "ClusterError", "exc_value": "no stack\n  What to do: look", "frames": []}],
    }

    assert log_lines(message) == ["Task failed with exception", "ClusterError: no stack\n  What to do: look"]
    assert log_lines("two\nlines") == ["two", "lines"]

"""Since when a run's deadline counts, for Airflow. The plugin registers it: scheduler and API server must know it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk.definitions.deadline import BaseDeadlineReference


class DagRunCreatedDeadline(BaseDeadlineReference):
    """The moment at which Airflow makes a run.

    That is what `DeadlineReference.DAGRUN_QUEUED_AT` means as well. But Airflow 3.3 answers an internal error to
    whoever clears a task of a run with that one (apache/airflow#70368), and clearing is how results are saved that an
    export has failed to save. With this one the moment stays when a run is cleared.
    """

    def _evaluate_with(self, **_: Any) -> datetime:
        """Return the moment: Airflow asks when it makes the run."""
        return datetime.now(UTC)

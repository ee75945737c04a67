"""The pages of our plugin, served by Airflow's API server below /hpc.

Airflow does not protect what a plugin serves, so every page here asks for the right to the DAG that it is about, as
Airflow's own API does for the runs of a DAG.
"""

from __future__ import annotations

import logging
from urllib.parse import urlencode

from airflow.api_fastapi.app import API_ROOT_PATH
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.configuration import conf
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException

from hpc.errors import ClusterError, HpcError, TransientError
from hpc.names import cluster_name
from hpc.ui.origin import is_same_origin, origin
from hpc.ui.pages import HEADERS, error_page, session_page
from hpc.ui.session import open_session

log = logging.getLogger(__name__)

app = FastAPI(openapi_url=None)


def from_our_page(request: Request) -> None:
    """Refuse what another site's page sends in the name of a user who is logged in here."""
    own = {origin(str(request.base_url)), origin(conf.get("api", "base_url", fallback=None) or "")}
    if not is_same_origin(request.headers, own):
        raise HTTPException(403, "This request does not come from Airflow's own page.")


may_see_runs = Depends(requires_access_dag("GET", DagAccessEntity.RUN))
may_start_runs = Depends(requires_access_dag("POST", DagAccessEntity.RUN))


@app.get("/dcv/{dag_id}/{run_id}", dependencies=[may_see_runs])
def show(dag_id: str, run_id: str) -> Response:
    """Show the page from which a DCV session on the run's cluster is opened."""
    return session_page(dag_id, run_id, cluster_name(dag_id, run_id))


@app.post("/dcv/{dag_id}/{run_id}", dependencies=[Depends(from_our_page), may_start_runs])
def start(dag_id: str, run_id: str, user: GetUserDep) -> Response:
    """Open a session and send the browser there. A plain function: FastAPI runs it in a thread."""
    cluster = cluster_name(dag_id, run_id)
    log.info("DCV session on cluster %s for %s", cluster, user.get_name())
    try:
        url = open_session(dag_id, cluster)
    except HpcError as error:
        log.warning("No DCV session on cluster %s: %s", cluster, error)
        return session_page(dag_id, run_id, cluster, problem=str(error), status=_status(error))
    return RedirectResponse(url, 303, HEADERS)


def _status(error: HpcError) -> int:
    if isinstance(error, TransientError):
        return 503
    return 409 if isinstance(error, ClusterError) else 502


@app.exception_handler(AnyHTTPException)
def refuse(request: Request, error: AnyHTTPException) -> Response:
    """Send people to Airflow's log-in and back, and show every other refusal as a page."""
    if error.status_code == 401:
        query = urlencode({"next": request.url.path})
        return RedirectResponse(f"{API_ROOT_PATH}api/v2/auth/login?{query}", 303, HEADERS)
    return error_page("Not here", str(error.detail), error.status_code)

"""moto's server with everything installed. Imported only after the environment that moto reads has been set."""

from __future__ import annotations

import threading
from pathlib import Path

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from local_aws import ec2, repairs, repositories, stacks
from local_aws.control import Control
from local_aws.faults import Faults
from local_aws.network import Slot
from local_aws.supervisor import Supervisor


class Endpoint:
    """The HTTP server on 127.0.0.1 and what it drives."""

    def __init__(self, directory: Path, slot: Slot, account: str, region: str, port: int) -> None:
        faults = Faults()
        self.supervisor = Supervisor(directory, slot, account, region, faults)
        repairs.install()
        ec2.install(self.supervisor, slot, faults)
        stacks.install(self.supervisor, faults)
        repositories.install(self.supervisor, account)
        self.control = Control(self.supervisor, DomainDispatcherApplication(create_backend_app))
        self._server = make_server(
            "127.0.0.1", port, self.control.application, threaded=True, request_handler=MotoRequestHandler
        )

    def start(self) -> None:
        """Serve from now on."""
        self.supervisor.watch.start()
        threading.Thread(target=self._server.serve_forever, name="endpoint", daemon=True).start()

    def stop(self) -> None:
        """End every machine and the server."""
        self.supervisor.stop()
        self._server.shutdown()

"""A site's end: starts the program, and sends its requests to the server through FLARE."""

from __future__ import annotations

import hmac
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.tie.applet import Applet
from nvflare.app_common.tie.connector import Connector
from nvflare.app_common.tie.executor import TieExecutor
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.message import Message

from asyndgan_flare.configuration import check_name, is_simulated, own_file
from asyndgan_flare.program import Program, find_program
from asyndgan_flare.server import run_dir
from asyndgan_flare.wire import CHANNEL, ENDED, EXCHANGE, METHOD, OPTIONS, opened

# A request waits at the server's program for at most 30 s.
REQUEST_S = 60.0
# How long the program may take to end on its own once the job has ended. FLARE kills the processes of an aborted job
# after 10 s.
END_S = 4.0
# How often the exit code of the program is reported, and how long each report may take.
REPORTS, REPORT_S = 12, 5.0


class SiteConnector(Connector):  # type: ignore[misc]
    """Listens for the program on this machine, and sends its requests to the server."""

    def __init__(self, simulated: str | None) -> None:
        super().__init__()
        self.simulated = simulated
        self.token = secrets.token_hex(32)
        self.run_name = ""
        self.target = ""
        self.listener: Any = None

    def configure(self, config: dict[str, Any], fl_ctx: FLContext) -> None:
        """Takes the run's name, and nothing else, from the job."""
        self.run_name = check_name(config["name"])

    def start(self, fl_ctx: FLContext) -> None:
        """Listens on a port of its own, and starts the program."""
        own = own_file(fl_ctx, self.simulated)
        self.target = "server" if is_simulated(self.engine) else f"server.{fl_ctx.get_job_id()}"
        # One request waits for the server's parts, and one brings this site's.
        self.listener = grpc.server(ThreadPoolExecutor(4), options=OPTIONS, maximum_concurrent_rpcs=8)
        service, method = METHOD[1:].split("/")
        handler = grpc.unary_unary_rpc_method_handler(self.on_request)
        self.listener.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        port = self.listener.add_insecure_port("127.0.0.1:0")
        self.listener.start()
        environment = {
            "ASYNDGAN_RELAY_ADDRESS": f"127.0.0.1:{port}",
            "ASYNDGAN_RELAY_TOKEN": self.token,
            "ASYNDGAN_RELAY_SITE": fl_ctx.get_identity_name(),
            "ASYNDGAN_RELAY_RUN": self.run_name,
            "ASYNDGAN_PROGRESS": "lines",
        }
        log = Path(run_dir(fl_ctx)) / "asyndgan-site.log"
        self.logger.info(f"starts the program; its log: {log}")
        command = [find_program(), "site", "--config", str(own)]
        self.start_applet({"command": command, "environment": environment, "log": log}, fl_ctx)

    def on_request(self, data: bytes, context: Any) -> bytes:
        """Sends a request of the program to the server, and returns its reply."""
        sent = dict(context.invocation_metadata()).get("authorization", "")
        if not hmac.compare_digest(sent.encode(), f"Bearer {self.token}".encode()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this is not the token of this job")
        cell = self.engine.get_cell().core_cell
        request = Message(payload=data)
        reply = cell.send_request(channel=CHANNEL, topic=EXCHANGE, target=self.target, request=request, timeout=REQUEST_S)
        code = reply.get_header(MessageHeaderKey.RETURN_CODE)
        if code == ReturnCode.AUTHENTICATION_ERROR:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "FLARE's server does not know this site as one of the job")
        if code != ReturnCode.OK:
            # The program repeats the request.
            context.abort(grpc.StatusCode.UNAVAILABLE, f"FLARE: {code} {reply.get_header(MessageHeaderKey.ERROR)}")
        status, body = opened(reply.payload)
        if status != grpc.StatusCode.OK:
            context.abort(status, body.decode(errors="replace"))
        return body

    def report(self, code: int) -> None:
        """Reports the exit code of the program to the server, until it has arrived."""
        for _ in range(REPORTS):
            cell = self.engine.get_cell().core_cell
            request = Message(payload=str(code).encode())
            reply = cell.send_request(channel=CHANNEL, topic=ENDED, target=self.target, request=request, timeout=REPORT_S)
            if reply.get_header(MessageHeaderKey.RETURN_CODE) == ReturnCode.OK:
                return
            time.sleep(1.0)
        self.logger.error("the end of the program could not be reported to the server")

    def stop(self, fl_ctx: FLContext) -> None:
        """Ends the program, and the listener."""
        self.stop_applet(END_S)
        if self.listener is not None:
            self.listener.stop(0.5)


class AsynDganExecutor(TieExecutor):  # type: ignore[misc]
    """Runs a site's end of a job."""

    def __init__(self, simulated: str | None = None) -> None:
        super().__init__()
        self.simulated = simulated
        self.run_name = ""

    def configure(self, config: dict[str, Any], fl_ctx: FLContext) -> None:
        """Takes the run's name from the job."""
        self.run_name = config.get("name", "")

    def get_connector_config(self, fl_ctx: FLContext) -> dict[str, Any]:
        """The run's name."""
        return {"name": self.run_name}

    def get_connector(self, fl_ctx: FLContext) -> Connector:
        """The connector to the program."""
        return SiteConnector(self.simulated)

    def get_applet(self, fl_ctx: FLContext) -> Applet:
        """The program."""
        return Program()

    def _notify_client_done(self, rc: int, fl_ctx: FLContext) -> None:
        # FLARE's own message is sent once, and its sender is its own word.
        if self.connector is not None:
            self.connector.report(rc)

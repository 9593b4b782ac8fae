"""The server's end: starts the program, and passes the sites' requests to it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

import grpc
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.tie.applet import Applet
from nvflare.app_common.tie.connector import Connector
from nvflare.app_common.tie.controller import TieController
from nvflare.app_common.tie.defs import Constant
from nvflare.fuel.f3.cellnet.core_cell import make_reply
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.cellnet.utils import encode_payload
from nvflare.fuel.f3.message import Message
from nvflare.private.defs import CellMessageHeaderKeys

from asyndgan_flare.configuration import is_simulated, own_file, write_run
from asyndgan_flare.program import Program, find_program, wait_for_file
from asyndgan_flare.wire import CHANNEL, METHOD, OPTIONS, TOPIC, failed, succeeded

# The program decides how long it waits for a site.
NEVER_S = 10.0 * 365 * 24 * 3600
# How long the program may read its data and load its networks.
START_S = 300.0
# How long the program may write its results once all sites have ended.
RESULTS_S = 600.0
# Longer than a request waits at the program.
REQUEST_S = 60.0


def sender(headers: dict[str, Any], participants: set[str], simulated: bool) -> str | None:
    """The site that a cell message is from; none if that is not certain.

    The parent process of the server has checked both headers: the token's signature is over CLIENT_NAME, and the token is
    bound to ORIGIN. The peer context, which other handlers of FLARE read, is the sender's own word.
    """
    origin = str(headers.get(MessageHeaderKey.ORIGIN) or "").split(".")[0]
    name = origin if simulated else headers.get(CellMessageHeaderKeys.CLIENT_NAME)
    return name if name and name == origin and name in participants else None


class ServerConnector(Connector):  # type: ignore[misc]
    """Passes the sites' requests to the program on this machine."""

    def __init__(self, job: dict[str, Any], simulated: str | None, participants: set[str]) -> None:
        super().__init__()
        self.job, self.simulated, self.participants = job, simulated, participants
        self.token = secrets.token_hex(32)
        self.run_folder: Path | None = None
        self.call: Any = None
        self.exit_code: int | None = None

    def configure(self, config: dict[str, Any], fl_ctx: FLContext) -> None:
        """Nothing: the job's arguments are in the controller."""

    def start(self, fl_ctx: FLContext) -> None:
        """Starts the program, and begins to pass requests to it."""
        own = own_file(fl_ctx, self.simulated)
        run = write_run(own, self.job, sorted(self.participants), "run")
        self.run_folder = run.parent / "run"
        private = Path(tempfile.mkdtemp(prefix="asyndgan-"))
        try:
            address_file = private / "address"
            environment = {
                "ASYNDGAN_RELAY_TOKEN": self.token,
                "ASYNDGAN_RELAY_ADDRESS_FILE": str(address_file),
                "ASYNDGAN_PROGRESS": "lines",
            }
            log = Path(run_dir(fl_ctx)) / "asyndgan-server.log"
            self.logger.info(f"starts the program; its log: {log}")
            command = [find_program(), "server", "--config", str(run)]
            self.start_applet({"command": command, "environment": environment, "log": log}, fl_ctx)
            address = wait_for_file(address_file, self.applet, START_S)
        finally:
            shutil.rmtree(private, ignore_errors=True)
        self.call = grpc.insecure_channel(address, options=OPTIONS).unary_unary(METHOD)
        self.engine.get_cell().core_cell.register_request_cb(channel=CHANNEL, topic=TOPIC, cb=self.on_request)

    def on_request(self, request: Message) -> Message | None:
        """Passes a request on. The reply is sent later, so that waiting requests hold no thread."""
        headers = request.headers
        name = sender(headers, self.participants, is_simulated(self.engine))
        if name is None:
            self.logger.warning(f"refused a request from {headers.get(MessageHeaderKey.ORIGIN)}: not a site of this job")
            return make_reply(ReturnCode.AUTHENTICATION_ERROR, "not a site of this job")
        origin, number = headers.get(MessageHeaderKey.ORIGIN), headers.get(MessageHeaderKey.REQ_ID)
        metadata = (("authorization", f"Bearer {self.token}"), ("asyndgan-site", name))
        future = self.call.future(bytes(request.payload), metadata=metadata, timeout=REQUEST_S)
        future.add_done_callback(lambda done: self.reply(done, origin, number))
        return None

    def reply(self, done: Any, origin: str, number: str) -> None:
        """Sends the program's reply, or its status, to a site."""
        try:
            payload = succeeded(done.result())
        except grpc.RpcError as error:
            payload = failed(error.code(), error.details() or "")
        reply = make_reply(ReturnCode.OK, "", payload)
        encode_payload(reply)
        lost = self.engine.get_cell().core_cell.send_reply(reply, origin, [number])
        if lost:
            self.logger.debug(f"a reply to {origin} was lost, and the site repeats its request: {lost}")

    def stop(self, fl_ctx: FLContext) -> None:
        """Waits for the program to write its results, unless the job was aborted; copies them to the job's folder."""
        if self.exit_code is not None:
            return
        is_aborted = self.abort_signal is not None and self.abort_signal.triggered
        code = self.stop_applet(0.0 if is_aborted and not self.is_applet_stopped()[0] else RESULTS_S)
        self.exit_code = code
        if code == 0 and self.run_folder is not None:
            self.copy_results(Path(run_dir(fl_ctx)) / "asyndgan")

    def copy_results(self, to: Path) -> None:
        """Copies what users take from a run: the generator, its curves and pictures, and the records; no masks."""
        assert self.run_folder is not None
        kept = ("generator.safetensors", "*.png", "*.csv", "*.json", "events.out.tfevents.*")
        for path in sorted(self.run_folder.rglob("*")):
            if path.is_file() and "checkpoints" not in path.parts and any(path.match(kind) for kind in kept):
                copy = to / path.relative_to(self.run_folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)


def run_dir(fl_ctx: FLContext) -> str:
    """The job's folder at this end."""
    workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    return str(workspace.get_run_dir(fl_ctx.get_job_id()))


class AsynDganController(TieController):  # type: ignore[misc]
    """Runs the server's end of a job."""

    def __init__(
        self,
        run_name: str,
        task: str = "tissue",
        profile: str | None = None,
        seed: int = 0,
        settings: dict[str, Any] | None = None,
        waiting: Any = "all",
        simulated: str | None = None,
    ) -> None:
        super().__init__(
            configure_task_timeout=60,
            start_task_timeout=int(START_S),
            max_client_op_interval=NEVER_S,
            progress_timeout=NEVER_S,
        )
        self.run_name, self.task, self.profile, self.seed = run_name, task, profile, seed
        self.settings, self.waiting, self.simulated = settings, waiting, simulated

    def get_client_config_params(self, fl_ctx: FLContext) -> dict[str, Any]:
        """The run's name, which is also that of the folder at each site."""
        return {"name": self.run_name}

    def get_connector_config_params(self, fl_ctx: FLContext) -> dict[str, Any]:
        """Nothing."""
        return {}

    def get_connector(self, fl_ctx: FLContext) -> Connector:
        """The connector to the program."""
        keys = ("task", "profile", "seed", "settings", "waiting")
        job = {"name": self.run_name, **{key: getattr(self, key) for key in keys}}
        return ServerConnector(job, self.simulated, set(self.participating_clients))

    def get_applet(self, fl_ctx: FLContext) -> Applet:
        """The program."""
        return Program()

    def _process_client_done(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        code = request.get(Constant.MSG_KEY_EXIT_CODE)
        if code != 0:
            # FLARE would finish the job as completed.
            peer = fl_ctx.get_peer_context()
            site = peer.get_identity_name() if peer else "a site"
            self.system_panic(f"the program at {site} ended with exit code {code}; see asyndgan-site.log there", fl_ctx)
        return super()._process_client_done(topic, request, fl_ctx)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Ends the program. The job has succeeded only if the program has."""
        super().stop_controller(fl_ctx)
        code = getattr(self.connector, "exit_code", None)
        if code not in (None, 0):
            self.system_panic(f"the server's program ended with exit code {code}; see asyndgan-server.log", fl_ctx)

"""The server's end: starts the program, and passes the sites' requests to it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReturnCode as TaskReturnCode
from nvflare.apis.shareable import Shareable
from nvflare.apis.shareable import make_reply as make_task_reply
from nvflare.apis.utils.analytix_utils import create_analytic_dxo, send_analytic_dxo
from nvflare.app_common.tie.applet import Applet
from nvflare.app_common.tie.connector import Connector
from nvflare.app_common.tie.controller import TieController
from nvflare.fuel.f3.cellnet.core_cell import make_reply
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.cellnet.utils import encode_payload
from nvflare.fuel.f3.message import Message
from nvflare.private.defs import CellMessageHeaderKeys

from asyndgan_flare.configuration import is_simulated, own_file, submitter, write_run
from asyndgan_flare.curves import Curves
from asyndgan_flare.program import Program, find_program, wait_for_file
from asyndgan_flare.wire import BYTES_MAX, CHANNEL, ENDED, EXCHANGE, METHOD, OPTIONS, content, failed, succeeded

# The program decides how long it waits for a site.
NEVER_S = 10.0 * 365 * 24 * 3600
# How long the program may read its data and load its networks.
START_S = 300.0
# How long the program may write its results once all sites have ended.
RESULTS_S = 600.0
# How long the sites may take to report that their programs have ended, once the server's has.
REPORTS_S = 60.0
# Longer than a request waits at the program.
REQUEST_S = 60.0
# How often the learning curves are passed on to FLARE's experiment tracking.
CURVES_S = 2.0
# A program has one request that waits, and one that brings its parts; as many may have been lost.
REQUESTS_MAX = 4


def sender(headers: dict[str, Any], participants: set[str], simulated: bool) -> str | None:
    """The site that a cell message is from; none if that is not certain.

    FLARE's server has checked both headers: the token's signature is over CLIENT_NAME, and the token is bound to ORIGIN,
    which has the site's name after those of FLARE's own relays. The peer context, which other handlers of FLARE read, is
    the sender's own word.
    """
    origin = str(headers.get(MessageHeaderKey.ORIGIN) or "").split(".")
    name = origin[0] if simulated else headers.get(CellMessageHeaderKeys.CLIENT_NAME)
    return name if name and name in origin and name in participants else None


class ServerConnector(Connector):  # type: ignore[misc]
    """Passes the sites' requests to the program on this machine."""

    def __init__(
        self, job: dict[str, Any], simulated: str | None, participants: set[str], on_ended: Callable[[str, int], None]
    ) -> None:
        super().__init__()
        self.job, self.simulated, self.participants, self.on_ended = job, simulated, participants, on_ended
        self.token = secrets.token_hex(32)
        self.results: Path | None = None
        self.channel: Any = None
        self.waiting: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.failure: str | None = None
        self.has_stopped = False
        self.tracking: threading.Thread | None = None
        self.is_over = threading.Event()

    def configure(self, config: dict[str, Any], fl_ctx: FLContext) -> None:
        """Nothing: the job's arguments are in the controller."""

    def start(self, fl_ctx: FLContext) -> None:
        """Starts the program, and begins to pass requests to it."""
        if not is_simulated(self.engine) and not fl_ctx.get_prop(FLContextKey.SECURE_MODE, False):
            raise RuntimeError("FLARE runs without certificates, so it cannot tell the sites apart: provision it with them")
        own = own_file(fl_ctx, self.simulated)
        run = write_run(own, self.job, sorted(self.participants), "run", submitter(fl_ctx))
        self.results = run.parent / "run"
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
            address = wait_for_file(address_file, self.applet, START_S, self.is_aborted)
        finally:
            shutil.rmtree(private, ignore_errors=True)
        self.channel = grpc.insecure_channel(address, options=OPTIONS)
        cell = self.engine.get_cell().core_cell
        cell.register_request_cb(channel=CHANNEL, topic=EXCHANGE, cb=self.on_request)
        cell.register_request_cb(channel=CHANNEL, topic=ENDED, cb=self.on_report)
        curves = Curves(self.results / f"seed-{self.job['seed']}" / "AsynDgan" / "losses.csv", sorted(self.participants))
        self.tracking = threading.Thread(target=self.track, args=(curves,), name="curves", daemon=True)
        self.tracking.start()

    def track(self, curves: Curves) -> None:
        """Passes the learning curves on to the job's experiment tracking, if it has a receiver, until the job ends."""
        is_last = False
        while not is_last:
            is_last = self.is_over.wait(CURVES_S)
            try:
                for number, values in curves.new_rows():
                    with self.engine.new_context() as fl_ctx:
                        for tag, value in values.items():
                            dxo = create_analytic_dxo(tag, value, AnalyticsDataType.SCALAR, global_step=number + 1)
                            send_analytic_dxo(self, dxo, fl_ctx)
            except (OSError, ValueError) as error:
                self.logger.warning(f"cannot read the learning curves: {error}")

    def is_aborted(self) -> bool:
        """Whether the job has ended, or was aborted."""
        return self.abort_signal is not None and bool(self.abort_signal.triggered)

    def site_of(self, request: Message) -> str | None:
        """The site that a message is from."""
        name = sender(request.headers, self.participants, is_simulated(self.engine))
        if name is None:
            origin = request.headers.get(MessageHeaderKey.ORIGIN)
            self.logger.warning(f"refused a message from {origin}: not a site of this job")
        return name

    def on_report(self, request: Message) -> Message:
        """Takes the exit code of a site's program."""
        name, code = self.site_of(request), content(request.payload)
        if name is None:
            return make_reply(ReturnCode.AUTHENTICATION_ERROR, "not a site of this job")
        try:
            self.on_ended(name, int(code or b"-1"))
        except ValueError:
            return make_reply(ReturnCode.INVALID_REQUEST, "not an exit code")
        return make_reply(ReturnCode.OK, "", b"")

    def on_request(self, request: Message) -> Message | None:
        """Passes a request on. The reply is sent later, so that waiting requests hold no thread."""
        name, body = self.site_of(request), content(request.payload)
        if name is None:
            return make_reply(ReturnCode.AUTHENTICATION_ERROR, "not a site of this job")
        if body is None:
            return make_reply(ReturnCode.INVALID_REQUEST, f"not bytes, or more than {BYTES_MAX}")
        with self.lock:
            # Another program may get the port of one that has ended.
            if self.has_stopped or self.is_applet_stopped()[0] or self.waiting[name] >= REQUESTS_MAX:
                return make_reply(ReturnCode.SERVICE_UNAVAILABLE, "the program has ended, or has too many requests of this site")
            self.waiting[name] += 1
            metadata = (("authorization", f"Bearer {self.token}"), ("asyndgan-site", name))
            future = self.channel.unary_unary(METHOD).future(body, metadata=metadata, timeout=REQUEST_S)
        origin, number = (request.headers.get(key) for key in (MessageHeaderKey.ORIGIN, MessageHeaderKey.REQ_ID))
        future.add_done_callback(lambda done: self.reply(done, name, str(origin), str(number)))
        return None

    def reply(self, done: Any, name: str, origin: str, number: str) -> None:
        """Sends the program's reply, or its status, to a site."""
        with self.lock:
            self.waiting[name] -= 1
        try:
            payload = succeeded(done.result())
        except grpc.RpcError as error:
            payload = failed(error.code(), error.details() or "")
        except grpc.FutureCancelledError:
            return
        reply = make_reply(ReturnCode.OK, "", payload)
        encode_payload(reply)
        lost = self.engine.get_cell().core_cell.send_reply(reply, origin, [number])
        if lost:
            self.logger.debug(f"a reply to {origin} was lost, and the site repeats its request: {lost}")

    def stop(self, fl_ctx: FLContext) -> None:
        """Waits for the program to write its results, unless the job was aborted; copies them to the job's folder."""
        with self.lock:
            if self.has_stopped:
                return
            self.has_stopped = True
        was_running = not self.is_applet_stopped()[0]
        code = self.stop_applet(0.0 if self.is_aborted() else RESULTS_S)
        self.is_over.set()
        if self.tracking is not None:
            self.tracking.join()
        if self.channel is not None:
            self.channel.close()
        if self.is_aborted() and was_running:
            # Ended because the job has, which has a reason of its own.
            return
        if code != 0:
            self.failure = f"the server's program ended with exit code {code}{self.applet.last_words()}"
        elif self.results is not None:
            try:
                copy_results(self.results, Path(run_dir(fl_ctx)) / "asyndgan")
            except OSError as error:
                self.failure = f"the results of {self.results} cannot be copied to the job's folder: {error}"


def copy_results(run: Path, to: Path) -> None:
    """Copies what users take from a run: the generator, its curves and pictures, and the records; no masks."""
    kept = ("generator.safetensors", "*.png", "*.csv", "*.json", "events.out.tfevents.*")
    for path in sorted(run.rglob("*")):
        if path.is_file() and "checkpoints" not in path.parts and any(path.match(kind) for kind in kept):
            copy = to / path.relative_to(run)
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
        return ServerConnector(job, self.simulated, set(self.participating_clients), self.on_ended)

    def get_applet(self, fl_ctx: FLContext) -> Applet:
        """The program."""
        return Program()

    def on_ended(self, site: str, code: int) -> None:
        """Notes that a site's program has ended. FLARE itself would finish the job as completed, with any exit code."""
        if code != 0:
            # Its own words stay at the site; the server's program knows what the site told it.
            known = self.connector.applet.last_words()
            reason = f"the program at {site} ended with exit code {code}; see asyndgan-site.log there. At the server{known}"
            self.system_panic(reason, self._engine.new_context())
        with self.status_lock:
            self.client_statuses[site].app_done = True

    def _process_client_done(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        # The sender of this message is its own word: sites report to `ServerConnector.on_report`.
        return make_task_reply(TaskReturnCode.OK)

    def _app_stopped(self, rc: int, fl_ctx: FLContext) -> None:
        until = time.monotonic() + REPORTS_S
        while rc == 0 and time.monotonic() < until and not self.connector.is_aborted():
            if all(status.app_done for status in self.client_statuses.values()):
                break
            time.sleep(0.2)
        silent = sorted(site for site, status in self.client_statuses.items() if not status.app_done)
        if rc == 0 and silent and not self.connector.is_aborted():
            self._trigger_stop(fl_ctx, f"no program ended at {', '.join(silent)}, although the run is over")
            return
        super()._app_stopped(rc, fl_ctx)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Ends the program. The job has succeeded only if the program has, and its results are there."""
        super().stop_controller(fl_ctx)
        failure = getattr(self.connector, "failure", None)
        if failure:
            self.system_panic(failure, fl_ctx)

"""The program beside a FLARE process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvflare.app_common.tie.applet import Applet
from nvflare.app_common.tie.defs import Constant

# How long a program may take to end after SIGTERM. FLARE kills the processes of an aborted job after 10 s.
TERMINATION_S = 3.0


def find_program() -> str:
    """The program: ``ASYNDGAN_PROGRAM``, or the one beside this Python, or the one on PATH."""
    own = os.environ.get("ASYNDGAN_PROGRAM")
    beside = Path(sys.executable).with_name("asyndgan")
    found = own or (str(beside) if beside.is_file() else shutil.which("asyndgan"))
    if not found:
        raise RuntimeError("the program asyndgan is not installed here: pip install asyndgan, or set ASYNDGAN_PROGRAM")
    return found


class Program(Applet):  # type: ignore[misc]
    """Starts the program, with its output in a log file, and ends it."""

    def __init__(self) -> None:
        super().__init__()
        self._log = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._error = False

    def start(self, app_ctx: dict[str, Any]) -> None:
        """Starts ``app_ctx["command"]`` with the environment ``app_ctx["environment"]``."""
        self._log = Path(app_ctx["log"])
        try:
            # Private: it may have the address of the dashboard with its token.
            with open(app_ctx["log"], "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
                self._process = subprocess.Popen(
                    app_ctx["command"],
                    env={**os.environ, **app_ctx["environment"], "ASYNDGAN_RELAY_PID": str(os.getpid())},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        except OSError as error:
            self.logger.error(f"cannot start {app_ctx['command'][0]}: {error}")
            self._error = True

    def stop(self, timeout: float = 0.0) -> int:
        """Waits so many seconds for the program to end, and then ends it. Returns its exit code."""
        process = self._process
        if process is None:
            return int(Constant.EXIT_CODE_CANT_START) if self._error else 0
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.terminate()
        try:
            return process.wait(TERMINATION_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def last_words(self) -> str:
        """The last error or warning of the program, after a colon; or where its log is."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        found = [line for line in lines if line.startswith(("error:", "warning:"))]
        return f": {found[-1][:500]}" if found else f"; see {self._log.name}"

    def is_stopped(self) -> tuple[bool, int]:
        """Whether the program has ended, and with which exit code."""
        if self._error:
            return True, int(Constant.EXIT_CODE_CANT_START)
        code = self._process.poll() if self._process else 0
        return code is not None, code or 0


def wait_for_file(path: Path, program: Program, timeout_s: float, is_aborted: Callable[[], bool]) -> str:
    """The content of a file that the program writes completely or not at all."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if is_aborted():
            raise RuntimeError("the job was aborted")
        if path.is_file():
            return path.read_text().strip()
        stopped, code = program.is_stopped()
        if stopped:
            raise RuntimeError(f"the program ended with exit code {code} before it listened{program.last_words()}")
        time.sleep(0.05)
    raise RuntimeError(f"the program did not listen within {timeout_s:.0f} s{program.last_words()}")

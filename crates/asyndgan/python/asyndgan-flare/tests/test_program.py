"""The program's start and end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from nvflare.app_common.tie.defs import Constant

from asyndgan_flare.program import Program, find_program, wait_for_file


def started(tmp_path: Path, code: str) -> Program:
    program = Program()
    command = [sys.executable, "-c", code]
    program.start({"command": command, "environment": {"WORD": "hello"}, "log": tmp_path / "log"})
    return program


def test_output_and_exit_code(tmp_path: Path) -> None:
    program = started(tmp_path, "import os; print(os.environ['WORD']); raise SystemExit(7)")
    assert program.stop(20.0) == 7
    assert program.is_stopped() == (True, 7)
    assert (tmp_path / "log").read_text().strip() == "hello"


def test_a_program_that_does_not_end_is_ended(tmp_path: Path) -> None:
    program = started(tmp_path, "import time; time.sleep(100)")
    assert program.is_stopped() == (False, 0)
    assert program.stop(0.0) == -15


def test_a_missing_program_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    program.start({"command": [str(tmp_path / "none")], "environment": {}, "log": tmp_path / "log"})
    assert program.is_stopped() == (True, Constant.EXIT_CODE_CANT_START)
    monkeypatch.setenv("ASYNDGAN_PROGRAM", "/own/asyndgan")
    assert find_program() == "/own/asyndgan"


def test_waiting_ends_with_the_program(tmp_path: Path) -> None:
    path = tmp_path / "address"
    program = started(tmp_path, f"open({str(path)!r}, 'w').write('127.0.0.1:1\\n')")
    assert wait_for_file(path, program, 20.0, lambda: False) == "127.0.0.1:1"
    path.unlink()
    with pytest.raises(RuntimeError, match="exit code 0 before it listened; see log"):
        wait_for_file(path, program, 20.0, lambda: False)


def test_waiting_ends_with_the_job(tmp_path: Path) -> None:
    program = started(tmp_path, "import time; time.sleep(100)")
    with pytest.raises(RuntimeError, match="aborted"):
        wait_for_file(tmp_path / "address", program, 20.0, lambda: True)
    program.stop(0.0)


def test_the_last_error_is_told(tmp_path: Path) -> None:
    program = started(tmp_path, "print('warning: first'); print('error: no data'); print('more')")
    program.stop(20.0)
    assert program.last_words() == ": error: no data"

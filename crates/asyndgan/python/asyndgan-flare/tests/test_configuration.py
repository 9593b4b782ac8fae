"""What a job may ask for, and what only the ends decide."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nvflare.apis.fl_constant import FLContextKey

from asyndgan_flare.configuration import check_name, own_file, submitter, write_run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

JOB = {"name": "pilot", "task": "tissue", "profile": "smoke", "seed": 3, "waiting": "all", "settings": {"protocol": {"rounds": 6}}}


class SimulatorEngine:
    """Named as that of the simulator."""


def context(engine: object, folder: Path) -> Any:
    workspace = SimpleNamespace(get_site_config_dir=lambda: str(folder))
    return SimpleNamespace(get_engine=lambda: engine, get_prop=lambda _: workspace, get_identity_name=lambda: "site-2")


def operator(folder: Path, text: str = 'folder = "runs"\ndevice = "cpu"\n') -> Path:
    path = folder / "asyndgan.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a b", ".hidden", "-x", "x" * 65, None, 3])
def test_names_that_are_no_folder_are_refused(name: Any) -> None:
    with pytest.raises(ValueError):
        check_name(name)


def test_the_job_and_the_operator_make_the_run(tmp_path: Path) -> None:
    path = write_run(operator(tmp_path), JOB, ["north", "south"], "run", "lead@example.org")
    assert path == tmp_path / "runs" / "pilot" / "run.toml"
    assert tomllib.loads(path.read_text()) == {
        "carrier": "relay", "folder": "run", "device": "cpu", "sites": ["north", "south"],
        "name": "pilot", "task": "tissue", "profile": "smoke", "seed": 3, "waiting": "all", "settings": {"protocol": {"rounds": 6}},
    }  # fmt: skip


def test_a_run_belongs_to_the_user_who_submitted_its_first_job(tmp_path: Path) -> None:
    path = write_run(operator(tmp_path), JOB, ["north"], "run", "lead@example.org")
    text = path.read_text()
    with pytest.raises(ValueError, match="belongs to another user"):
        write_run(operator(tmp_path), {**JOB, "seed": 4}, ["north"], "run", "other@example.org")
    assert path.read_text() == text
    assert write_run(operator(tmp_path), JOB, ["north"], "run", "lead@example.org") == path


def test_the_submitter_is_that_of_the_jobs_description(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    workspace = SimpleNamespace(get_job_meta_path=lambda _: str(path))
    fl_ctx: Any = SimpleNamespace(
        get_engine=object,
        get_prop=lambda key: workspace if key == FLContextKey.WORKSPACE_OBJECT else None,
        get_job_id=lambda: "1",
    )
    with pytest.raises(ValueError, match="does not name the user"):
        submitter(fl_ctx)
    assert submitter(context(SimulatorEngine(), tmp_path)) == ""
    path.write_text('{"submitter_name": "lead@example.org"}')
    assert submitter(fl_ctx) == "lead@example.org"


def test_a_task_file_travels_as_its_text(tmp_path: Path) -> None:
    text = 'name = "own"\nimages = "pictures"\n'
    path = write_run(operator(tmp_path), {**JOB, "task": text}, ["north"], "run", "lead@example.org")
    assert (path.parent / "task.toml").read_text() == text
    assert tomllib.loads(path.read_text())["task"] == "task.toml"


@pytest.mark.parametrize("change", [{"task": "/etc/passwd"}, {"task": "../task.toml"}, {"name": "../pilot"}])
def test_a_job_names_no_path(tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        write_run(operator(tmp_path), {**JOB, **change}, ["north"], "run", "lead@example.org")


@pytest.mark.parametrize("text", ["", 'folder = "runs"\nname = "x"\n', 'folder = "runs"\nsites = ["a"]\n'])
def test_a_server_file_that_is_incomplete_or_decides_too_much_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError):
        write_run(operator(tmp_path, text), JOB, ["north"], "run", "lead@example.org")


def test_files_that_a_job_names_are_for_the_simulator(tmp_path: Path) -> None:
    own = operator(tmp_path)
    assert own_file(context(object(), tmp_path), None) == own
    assert own_file(context(SimulatorEngine(), tmp_path), str(own)) == own
    with pytest.raises(ValueError, match="simulator only"):
        own_file(context(object(), tmp_path), str(own))
    with pytest.raises(ValueError, match="site-2"):
        own_file(context(SimulatorEngine(), tmp_path), None)
    own.unlink()
    with pytest.raises(ValueError, match="missing"):
        own_file(context(object(), tmp_path), None)

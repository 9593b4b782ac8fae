"""What each end decides for itself, and what a job may ask for."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import tomli_w
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_def import JobMetaKey

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# A run's name is also that of its folder.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Keys of a server's file that the job decides.
OF_THE_JOB = {"name", "sites", "task", "images", "profile", "seed", "waiting", "settings", "carrier"}


def check_name(name: str) -> str:
    """The name, if it is one that a folder may have."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a run name: use up to 64 letters, digits, '.', '_' and '-'")
    return name


def is_simulated(engine: object) -> bool:
    """Whether all ends are threads of FLARE's simulator, on one machine and without certificates."""
    return type(engine).__name__.startswith("Simulator")


def own_file(fl_ctx: FLContext, simulated: str | None) -> Path:
    """The configuration of this end: ``local/asyndgan.toml``; in the simulator, a file that the job names."""
    if is_simulated(fl_ctx.get_engine()):
        if simulated is None:
            end = fl_ctx.get_identity_name()
            raise ValueError(f"FLARE's simulator needs the recipe's argument simulated, with a file for {end}")
        return Path(simulated)
    if simulated is not None:
        raise ValueError("this job names a file of this machine, which is allowed in FLARE's simulator only")
    workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    path = Path(str(workspace.get_site_config_dir())) / "asyndgan.toml"
    if not path.is_file():
        raise ValueError(f"{path} is missing: it configures the program at this end")
    return path


def submitter(fl_ctx: FLContext) -> str:
    """The user who submitted the job; empty in the simulator, which has no users."""
    if is_simulated(fl_ctx.get_engine()):
        return ""
    meta = fl_ctx.get_prop(FLContextKey.JOB_META)
    if not isinstance(meta, dict):
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        path = Path(str(workspace.get_job_meta_path(fl_ctx.get_job_id())))
        meta = json.loads(path.read_text()) if path.is_file() else {}
    name = meta.get(JobMetaKey.SUBMITTER_NAME.value)
    if not name:
        raise ValueError("FLARE does not name the user who submitted this job, to whom its run would belong")
    return str(name)


def write_run(own: Path, job: dict[str, Any], sites: list[str], run_folder: str, submitted_by: str) -> Path:
    """Writes the server's run.toml: what the operator's file decides, and what the job asks for.

    Returns its path: beside the results of the run, which outlive the job. A run belongs to the user who submitted its
    first job.
    """
    operator = tomllib.loads(own.read_text())
    taken = sorted(OF_THE_JOB & operator.keys())
    if taken:
        raise ValueError(f"{own}: {', '.join(taken)}: a job decides this, not the server's file")
    if "folder" not in operator:
        raise ValueError(f"{own}: folder is missing: the results of runs are stored there")
    folder: Path = (own.parent / str(operator["folder"])).resolve() / check_name(job["name"])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    owner = folder / "submitter"
    if not owner.exists():
        # Complete or not at all.
        partial = folder / ".partial-submitter"
        partial.write_text(submitted_by)
        partial.replace(owner)
    elif owner.read_text() != submitted_by:
        raise ValueError(f"the run {job['name']!r} belongs to another user: choose another name")
    task = job["task"]
    if "\n" in task:
        (folder / "task.toml").write_text(task)
        task = "task.toml"
    elif task not in ("brain", "tissue"):
        raise ValueError(f"the task {task!r} is neither brain, nor tissue, nor the text of a task file")
    run = {**operator, "carrier": "relay", "folder": run_folder, "name": job["name"], "sites": sites, "task": task}
    run |= {key: job[key] for key in ("profile", "seed", "waiting", "settings") if job[key] is not None}
    path = folder / "run.toml"
    path.write_text(tomli_w.dumps(run))
    return path

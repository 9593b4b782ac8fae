"""The recipe of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nvflare.job_config.api import FedJob
from nvflare.recipe.spec import Recipe

from asyndgan_flare.configuration import check_name
from asyndgan_flare.server import AsynDganController
from asyndgan_flare.site import AsynDganExecutor


class AsynDganRecipe(Recipe):  # type: ignore[misc]
    """A job that trains a generator with the images of several sites.

    Args:
        name: Name of the run. A job with the name of an earlier one resumes its run.
        sites: Names of the FLARE clients that take part. The job needs all of them.
        task: ``"brain"``, ``"tissue"``, or the path of a task file, whose text the job carries.
        profile: ``"smoke"``, ``"desk"`` or ``"paper"``; none for that of the task file, or desk.
        seed: Seed of the run.
        settings: Settings that differ from the profile's, by section: ``{"protocol": {"rounds": 600}}``.
        waiting: Which sites a round waits for: ``"all"``, or a table as in run.toml.
        simulated: For FLARE's simulator only: the configuration files of ``"server"`` and of each site.
        installed: Whether ``asyndgan_flare`` is installed at every end. If not, the job carries its code, which needs the
            right to submit custom code.

    Raises:
        ValueError: For a name that a folder cannot have, or sites that are not different.
        OSError: If the task file cannot be read.
    """

    def __init__(
        self,
        name: str,
        *,
        sites: Sequence[str],
        task: str = "tissue",
        profile: str | None = None,
        seed: int = 0,
        settings: dict[str, Any] | None = None,
        waiting: Any = "all",
        simulated: Mapping[str, str | Path] | None = None,
        installed: bool = True,
    ) -> None:
        check_name(name)
        if task not in ("brain", "tissue"):
            task = Path(task).read_text()
        names = sorted(set(sites))
        if not names or len(names) != len(sites):
            raise ValueError(f"name at least one site, and each once, got {list(sites)}")
        files = {end: str(Path(path).resolve()) for end, path in simulated.items()} if simulated else None
        job = FedJob(name=name, min_clients=len(names), mandatory_clients=names)
        if installed and simulated is None:
            job.set_app_packages(["asyndgan_flare"])
        server = files.get("server") if files else None
        job.to_server(AsynDganController(name, task, profile, seed, settings, waiting, server))
        for site in names:
            job.to(AsynDganExecutor(files.get(site) if files else None), site, tasks=["*"])
        super().__init__(job)

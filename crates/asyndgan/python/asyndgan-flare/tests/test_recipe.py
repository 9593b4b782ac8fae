"""The job that a recipe makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyndgan_flare import AsynDganRecipe


def test_a_job_carries_no_command_and_no_path(tmp_path: Path) -> None:
    task = tmp_path / "own.toml"
    task.write_text('name = "own"\nimages = "pictures"\n')
    AsynDganRecipe("pilot", sites=["south", "north"], task=str(task)).export(str(tmp_path / "jobs"))
    written = sorted((tmp_path / "jobs").rglob("*.json"))
    text = "".join(path.read_text() for path in written)
    assert str(tmp_path) not in text and "command" not in text
    meta = json.loads(next(path for path in written if path.name == "meta.json").read_text())
    assert meta["min_clients"] == 2 and sorted(meta["mandatory_clients"]) == ["north", "south"]
    assert not list((tmp_path / "jobs").rglob("*.py")), "the package is installed at every end"


@pytest.mark.parametrize(("name", "sites"), [("../x", ["north"]), ("pilot", []), ("pilot", ["north", "north"])])
def test_names_and_sites_are_checked(name: str, sites: list[str]) -> None:
    with pytest.raises(ValueError):
        AsynDganRecipe(name, sites=sites)

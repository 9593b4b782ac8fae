"""A run inside FLARE's simulator ends with the bytes of one over gRPC. Needs the program: ASYNDGAN_PROGRAM."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from nvflare.recipe import SimEnv
from nvflare.recipe.utils import add_experiment_tracking
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asyndgan_flare import AsynDganRecipe

PROGRAM = os.environ.get("ASYNDGAN_PROGRAM", "")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="ASYNDGAN_PROGRAM is not set")
DATA = Path(tempfile.mkdtemp()) / "run" / "prepared"
ROUNDS = 60
SITES = ("site-1", "site-2")


def call(folder: Path, *arguments: str) -> None:
    subprocess.run([PROGRAM, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def secret(folder: Path, number: int) -> None:
    """The same secret in every run: a site draws its images from it."""
    folder.mkdir(parents=True)
    path = folder / "site.secret"
    path.write_bytes(bytes([number]) * 32)
    path.chmod(0o600)


def over_grpc(folder: Path) -> bytes:
    """The generator of the same run as separate processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call(folder, "keys", "init", "--server", "localhost")
    (folder / "run.toml").write_text(
        f'name = "pilot"\nsites = ["site-1", "site-2"]\ntask = "tissue"\nprofile = "smoke"\nfolder = "grpc"\nkeys = "keys"\n'
        f'listen = "127.0.0.1:{port}"\ndevice = "cpu"\n[settings.protocol]\nrounds = {ROUNDS}\n'
    )
    processes = [subprocess.Popen([PROGRAM, "server", "--config", "run.toml"], cwd=folder)]
    for number, site in enumerate(SITES, 1):
        call(folder, "keys", "issue", site)
        secret(folder / "grpc-sites" / site, number)
        (folder / f"grpc-{site}.toml").write_text(
            f'server = "localhost:{port}"\nbundle = "keys/sites/{site}.pem"\ndata = "{DATA}/{site}"\n'
            f'folder = "grpc-sites/{site}"\ndevice = "cpu"\n'
        )
        processes.append(subprocess.Popen([PROGRAM, "site", "--config", f"grpc-{site}.toml"], cwd=folder))
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    return (folder / "grpc/seed-0/AsynDgan/generator.safetensors").read_bytes()


def simulated(folder: Path, policies: tuple[str, str] = ("", "")) -> dict[str, Path]:
    """The configuration files of all ends."""
    files = {"server": folder / "server.toml", **{site: folder / f"{site}.toml" for site in SITES}}
    files["server"].write_text('folder = "runs"\ndevice = "cpu"\n')
    for number, (site, policy) in enumerate(zip(SITES, policies), 1):
        secret(folder / site / "pilot", number)
        files[site].write_text(
            f'carrier = "relay"\ndata = "{DATA}/{site}"\nfolder = "{site}"\ndevice = "cpu"\napproval = "policy"\n{policy}'
        )
    return files


def run(folder: Path, files: dict[str, Path]) -> Any:
    recipe = AsynDganRecipe("pilot", sites=SITES, profile="smoke", settings={"protocol": {"rounds": ROUNDS}}, simulated=files)
    add_experiment_tracking(recipe, "tensorboard")
    return recipe.execute(SimEnv(clients=list(SITES), workspace_root=str(folder / "simulator")))


def generators(result: Any) -> list[Path]:
    return list(Path(result.get_result()).rglob("generator.safetensors"))


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    if not DATA.exists():
        chosen = ["--set", "data.sites=2", "--set", "data.phantoms_per_site=4", "--arms", "RealAll"]
        call(DATA.parents[1], "reproduce", "table2", "--profile", "smoke", *chosen, "--out", "run")


def test_a_run_in_the_simulator_ends_with_the_bytes_of_one_over_grpc(tmp_path: Path) -> None:
    expected = over_grpc(tmp_path)
    result = run(tmp_path, simulated(tmp_path))
    found = generators(result)
    assert len(found) == 1, found
    assert found[0].read_bytes() == expected
    # FLARE's own tracking has every round.
    events = EventAccumulator(str(next(Path(result.get_result()).rglob("tb_events/*"))))
    events.Reload()
    for site in SITES:
        points = events.Scalars(f"feedback_norm/{site}")
        assert [point.step for point in points] == list(range(1, ROUNDS + 1)) and all(point.value > 0 for point in points)
    # What left each site is in its own folder.
    assert all((tmp_path / site / "pilot" / "journal.jsonl").is_file() for site in SITES)


def test_a_site_that_refuses_the_run_ends_the_job(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        run(tmp_path, simulated(tmp_path, ("", "[policy]\nrounds_max = 5\n")))
    text = "".join(capfd.readouterr())
    assert "the program at site-2 ended with exit code 1" in text
    assert "rounds_max is 5" in text, "the operator learns why"

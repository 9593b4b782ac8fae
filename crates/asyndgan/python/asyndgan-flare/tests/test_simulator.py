"""A run inside FLARE's simulator ends with the bytes of one over gRPC. Needs the program: ASYNDGAN_PROGRAM."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from nvflare.recipe import SimEnv

from asyndgan_flare import AsynDganRecipe

PROGRAM = os.environ.get("ASYNDGAN_PROGRAM", "")
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
            f'server = "localhost:{port}"\nbundle = "keys/sites/{site}.pem"\ndata = "run/prepared/{site}"\n'
            f'folder = "grpc-sites/{site}"\ndevice = "cpu"\n'
        )
        processes.append(subprocess.Popen([PROGRAM, "site", "--config", f"grpc-{site}.toml"], cwd=folder))
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    return (folder / "grpc/seed-0/AsynDgan/generator.safetensors").read_bytes()


@pytest.mark.skipif(not PROGRAM, reason="ASYNDGAN_PROGRAM is not set")
def test_a_run_in_the_simulator_ends_with_the_bytes_of_one_over_grpc(tmp_path: Path) -> None:
    prepare = ["--set", "data.sites=2", "--set", "data.phantoms_per_site=4", "--arms", "RealAll"]
    call(tmp_path, "reproduce", "table2", "--profile", "smoke", *prepare, "--out", "run")
    expected = over_grpc(tmp_path)
    files: dict[str, str | Path] = {"server": tmp_path / "server.toml"}
    (tmp_path / "server.toml").write_text('folder = "runs"\ndevice = "cpu"\n')
    for number, site in enumerate(SITES, 1):
        secret(tmp_path / site / "pilot", number)
        files[site] = tmp_path / f"{site}.toml"
        (tmp_path / f"{site}.toml").write_text(
            f'carrier = "relay"\ndata = "run/prepared/{site}"\nfolder = "{site}"\ndevice = "cpu"\n'
        )
    recipe = AsynDganRecipe(
        "pilot", min_clients=2, profile="smoke", settings={"protocol": {"rounds": ROUNDS}}, simulated=files
    )
    run = recipe.execute(SimEnv(num_clients=2, workspace_root=str(tmp_path / "simulator")))
    found = list(Path(run.get_result()).rglob("generator.safetensors"))
    assert len(found) == 1, found
    assert found[0].read_bytes() == expected
    # What left each site is in its own folder.
    assert all((tmp_path / site / "pilot" / "journal.jsonl").is_file() for site in SITES)

"""Starts the program, which loads libtorch from the installed package torch."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn


def environment(torch: Path, has_gpu: bool) -> dict[str, str]:
    """The environment of the program.

    Nothing in it refers to CUDA's part of libtorch by name, so that part is preloaded where there is a GPU.
    """
    variables = dict(os.environ)
    cuda = torch / "lib" / "libtorch_cuda.so"
    if has_gpu and cuda.is_file():
        if any(character in str(cuda) for character in " :"):
            # The loader would split the path there, and the program would silently use the CPU.
            sys.exit(f"asyndgan: the GPU cannot be used from {torch}: choose a folder without spaces and colons in its path")
        before = variables.get("LD_PRELOAD")
        variables["LD_PRELOAD"] = f"{cuda}:{before}" if before else str(cuda)
    return variables


def main() -> NoReturn:
    """Replaces this process by the program, with the same arguments."""
    # Finding the package is enough; importing it would take seconds.
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        sys.exit("asyndgan needs the package torch, which is not installed here: pip install asyndgan installs both")
    torch = Path(found.submodule_search_locations[0])
    program = Path(__file__).parent / "bin" / "asyndgan"
    if torch.parent != program.parents[2] and not (program.parents[2] / "torch").exists():
        sys.exit(f"asyndgan is in {program.parents[2]}, but torch is in {torch.parent}: install both in one environment")
    has_gpu = any(Path(path).exists() for path in ("/proc/driver/nvidia/version", "/dev/nvidiactl"))
    os.execve(program, [str(program), *sys.argv[1:]], environment(torch, has_gpu))


if __name__ == "__main__":
    main()

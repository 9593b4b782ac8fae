"""The learning curves that the server's program writes, for FLARE's experiment tracking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO


class Curves:
    """Reads ``losses.csv`` while the program writes it.

    Args:
        path: The file; it need not exist yet.
        sites: Names of the sites, in the order of the run.
    """

    def __init__(self, path: Path, sites: Sequence[str]) -> None:
        self.path, self.sites = path, sites
        self.last_round = -1
        self._offset = 0
        self._tags: list[str] = []

    def new_rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Rounds since the last call, with the values that were reported."""
        try:
            with self.path.open("rb") as file:
                text = self._new_text(file)
        except FileNotFoundError:
            return
        for line in text.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                # It is being written.
                return
            is_header = self._offset == 0
            self._offset += len(line)
            first, *cells = line.decode().rstrip().split(",")
            if is_header:
                self._tags = [self._tag(name) for name in cells]
            elif int(first) > self.last_round:
                self.last_round = int(first)
                yield self.last_round, {tag: float(cell) for tag, cell in zip(self._tags, cells) if cell}

    def _new_text(self, file: BinaryIO) -> bytes:
        """The text after the last row that was read; all of it if the program has begun the file anew."""
        if self._offset > 0:
            file.seek(self._offset - 1)
            before, text = file.read(1), file.read()
            number = text.partition(b",")[0]
            if before == b"\n" and (not text or number == str(self.last_round + 1).encode()):
                return text
            # The run has resumed, or gone back to a checkpoint.
            self._offset = 0
        file.seek(0)
        return file.read()

    def _tag(self, name: str) -> str:
        """``feedback_norm/site-2`` with the name of the second site."""
        value, _, site = name.partition("/site-")
        return f"{value}/{self.sites[int(site) - 1]}"

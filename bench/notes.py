"""What the agents wrote down: when each message's text and Enter were on their standard input."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path


class Notes:
    """The notes of all agents in a folder, read on from where the last look ended. Times are monotonic nanoseconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = defaultdict(int)
        self.pids: dict[str, int] = {}
        """Agent name -> process id of the program that was started last under it."""
        self.started: dict[str, int] = {}
        """Agent name -> when that program began to work."""
        self.text: dict[int, list[int]] = defaultdict(list)
        """Mark of a message -> each time its text was typed."""
        self.enter: dict[int, list[int]] = defaultdict(list)

    def path(self, name: str) -> Path:
        """Where the agent of this name takes notes."""
        return self._folder / f"{name}.notes"

    def look(self) -> None:
        """Read what was written since the last look; a line that is still being written is left for the next."""
        for path in self._folder.glob("*.notes"):
            with path.open("rb") as file:
                file.seek(self._read[path])
                whole, newline, _rest = file.read().rpartition(b"\n")
            self._read[path] += len(whole) + len(newline)
            for line in whole.decode().splitlines():
                self._take(path.stem, line.split())

    def _take(self, name: str, words: list[str]) -> None:
        match words:
            case ["pid", pid, at]:
                self.pids[name], self.started[name] = int(pid), int(at)
            case ["text", mark, at]:
                self.text[int(mark)].append(int(at))
            case ["enter", mark, at]:
                self.enter[int(mark)].append(int(at))
            case _:
                raise ValueError(f"{name} noted {words}")

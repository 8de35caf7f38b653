"""Who takes part in the demo, and how what they received is counted."""

from __future__ import annotations

import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from relaybroker.demo import agents as agent_programs

_PROGRAMS = Path(agent_programs.__file__).parent
_ID = re.compile(r"Relay message from .*?\[(\d+)")


@dataclass
class Agent:
    """One program in a terminal, with the file in which it notes what it received."""

    name: str
    build: Callable[[Path, Path], list[str]]
    pid: int = 0
    agent_id: str = ""

    def file(self, folder: Path) -> Path:
        """Where the program notes what it received."""
        return folder / f"{self.name}.received"

    def received(self, folder: Path) -> str:
        """What the program has noted so far."""
        try:
            return self.file(folder).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def prepare(self, folder: Path) -> None:
        """Write what the program needs: bash keeps its history in the file, after every line."""
        rc = f"HISTFILE={shlex.quote(str(self.file(folder)))}\nHISTSIZE=100000\nHISTCONTROL=\nPROMPT_COMMAND='history -a'\nPS1='$ '\n"
        (folder / "bashrc").write_text(rc, encoding="utf-8")

    def command(self, folder: Path) -> str:
        """The command line."""
        return shlex.join(self.build(folder, self.file(folder)))


AGENTS = (
    Agent("shell", lambda folder, _file: ["bash", "--noprofile", "--rcfile", str(folder / "bashrc"), "-i"]),
    Agent("python", lambda _folder, file: [sys.executable, "-i", "-q", str(_PROGRAMS / "repl_notes.py"), str(file)]),
    Agent("chat", lambda _folder, file: [sys.executable, str(_PROGRAMS / "chat.py"), str(file)]),
)


def received_ids(text: str) -> list[str]:
    """The message ids in what a program noted, in order, repeats included."""
    return _ID.findall(text)


@dataclass
class Tally:
    """What was posted to whom."""

    _by_agent: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, message: str, agent: str) -> None:
        """The engine took this message for this agent."""
        self._by_agent[agent].add(message)

    @property
    def sent(self) -> int:
        """Deliveries owed."""
        return sum(len(ids) for ids in self._by_agent.values())

    def messages(self) -> dict[str, list[str]]:
        """Message id -> names of its recipients."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, ids in self._by_agent.items():
            for message in ids:
                found[message].append(name)
        return found

    def missing(self, received: dict[str, list[str]]) -> int:
        """Deliveries that have not arrived."""
        return sum(len(ids - set(received.get(name, ()))) for name, ids in self._by_agent.items())

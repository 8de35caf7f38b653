"""Who takes part in the demo, and how what arrived at them is counted."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from relaybroker.demo import agents as agent_programs

_PROGRAMS = Path(agent_programs.__file__).parent
TRACE = "ran-by-a-message"
"""Beginning of the names of the files that the demo's messages would make, were they run."""
_ID = re.compile(r"Relay message from .*?\[(\d+)")


@dataclass
class Agent:
    """One program in a terminal, and where it is seen what arrived there."""

    name: str
    build: Callable[[Path], list[str]]
    """The command line, from the file in which the program notes what it reads."""
    channel: str = "general"
    is_shown: bool = False
    """It runs what it is typed, so it gets nothing typed: what arrived is what its terminal showed."""
    pid: int = 0
    agent_id: str = ""

    def noted(self, folder: Path) -> Path:
        """Where the program notes what it read: a shell its history, the others every line."""
        return folder / f"{self.name}.received"

    def received(self, folder: Path, terminal_logs: Path) -> str:
        """What has arrived: on its terminal for a shell, else what it has noted itself."""
        return _text(terminal_logs / f"{self.name}.log" if self.is_shown else self.noted(folder))

    def prepare(self, folder: Path) -> None:
        """Write what the program needs: bash keeps its history in the file, after every line."""
        rc = f"HISTFILE={shlex.quote(str(self.noted(folder)))}\nHISTSIZE=100000\nHISTCONTROL=\nPROMPT_COMMAND='history -a'\nPS1='$ '\n"
        (folder / "bashrc").write_text(rc, encoding="utf-8")

    def command(self, folder: Path) -> str:
        """The command line."""
        return shlex.join(self.build(self.noted(folder)))


EVERYBODY = (
    Agent("shell", lambda file: ["bash", "--noprofile", "--rcfile", str(file.parent / "bashrc"), "-i"], is_shown=True),
    Agent("notes", lambda file: [sys.executable, str(_PROGRAMS / "notes.py"), str(file)]),
    Agent("chat", lambda file: [sys.executable, str(_PROGRAMS / "chat.py"), str(file)]),
)
"""Who is in the channel of everybody."""
TALK = "talk"
TALKERS = tuple(
    Agent(name, lambda file: [sys.executable, str(_PROGRAMS / "talker.py"), str(file)], channel=TALK)
    for name in ("ada", "bob")
)
"""Who talk to each other, directly and in a channel of their own."""
AGENTS = (*EVERYBODY, *TALKERS)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def ran(folder: Path) -> int:
    """How much of the messages a shell ran: entries of its history, and files that only a command of a message makes."""
    entered = sum(len(_text(agent.noted(folder)).splitlines()) for agent in AGENTS if agent.is_shown)
    return entered + len(list(folder.glob(f"{TRACE}*")))


def received_ids(text: str) -> list[str]:
    """The message ids in what arrived, in order, repeats included."""
    return _ID.findall(text)


@dataclass(frozen=True)
class Said:
    """What the two talkers used their tools for, as each noted it before it did."""

    texts: Counter[tuple[str, str]]
    """Author and text."""
    thoughts: int
    """Questions that were thought about before they were answered."""
    began: list[str]
    """The first message of each conversation."""

    @staticmethod
    def by_now(folder: Path) -> Said:
        """All of it so far."""
        lines = [(agent.name, json.loads(line)) for agent in TALKERS for line in _lines(folder / f"{agent.name}.said")]
        texts = Counter((name, line["text"]) for name, line in lines if "text" in line)
        began = [line["began"] for _, line in lines if "began" in line]
        return Said(texts, sum("thinks_in" in line for _, line in lines), began)


def _lines(file: Path) -> list[str]:
    return [line for line in _text(file).splitlines(keepends=True) if line.endswith("\n")]


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
        receivers: dict[str, list[str]] = defaultdict(list)
        for name, ids in self._by_agent.items():
            for message in ids:
                receivers[message].append(name)
        return receivers

    def missing(self, received: dict[str, list[str]]) -> int:
        """Deliveries that have not arrived."""
        return sum(len(ids - set(received.get(name, ()))) for name, ids in self._by_agent.items())

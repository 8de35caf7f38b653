"""The recordings of `fixtures/sessions`: where they are, what each must show, and what none may hold."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from relaybroker.domain.events.registry import topics_of
from relaybroker.replay.playing import Outcome, Player
from relaybroker.replay.session import open_session

FOLDER = Path(__file__).parents[2] / "fixtures" / "sessions"
MAX_BYTES = 512 * 1024
"""A recording is read in reviews and kept for ever: it is small."""

PRIVATE = {
    "a token": re.compile(r"\b(?:rk|at|nt|ht|ot)_live_\w+"),
    "a key of the local API": re.compile(r"\bbr_[0-9a-f]{16,}"),
    "a path of the machine that recorded it": re.compile(r"/(?:home|root|Users|work|tmp|var)\b[^\"\s]*"),
}


class Expected(NamedTuple):
    """What the table says of a recording."""

    says: str
    shows: Counter[str]
    """How often at least its subject (`topic` or `topic reason`) is in it."""
    otherwise: frozenset[int]
    """The log positions at which this version decides otherwise, on purpose."""


def expected() -> dict[str, Expected]:
    """The table, by name."""
    table = tomllib.loads((FOLDER / "sessions.toml").read_text(encoding="utf-8"))
    return {
        name: Expected(row["says"], Counter(row["shows"]), frozenset(row.get("otherwise", ())))
        for name, row in table.items()
    }


def path_of(name: str) -> Path:
    """The file of a recording."""
    return FOLDER / f"{name}.jsonl"


def play(path: Path) -> Outcome:
    """Decide it again with this version's core, as `relaybroker replay` does."""
    with open_session(path) as session:
        return Player(session).play()


def shown(path: Path) -> Counter[str]:
    """What happens in it, and how often: each topic, and each topic with each of its reasons, under every name it had."""
    counts: Counter[str] = Counter()
    with open_session(path) as session:
        for recorded in (one for turn in session for one in turn.events):
            reason = getattr(recorded.event, "reason", None)
            for topic in topics_of(type(recorded.event)):
                counts.update([topic, f"{topic} {reason}"] if reason else [topic])
    return counts


def missing(path: Path, name: str) -> Counter[str]:
    """What it should show and does not."""
    return expected()[name].shows - shown(path)


def private(path: Path) -> list[str]:
    """What is in it and must not be."""
    text = path.read_text(encoding="utf-8")
    return [f"{what}: {match.group()}" for what, pattern in PRIVATE.items() for match in pattern.finditer(text)]

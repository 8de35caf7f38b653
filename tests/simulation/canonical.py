"""The canonical form of a simulated world: two worlds with the same form go on alike.

Everything that can matter for what happens next, or for whether a promise will be broken, is in it: the core's state, what is decided
and not yet safe, the inbox, everything under way, the engine, the PTY host, and what the checker has seen. Left out is what only counts
or tells (announcements to watchers, counters, marks). Interleavings differ in what has no meaning of its own, and that is replaced:

* Positions of the log by their rank: the world of an exploration begins at `FIRST_POSITION`, so that a position is recognised.
* Ids that the core derives from positions (16 hex digits or more) by the order in which they are met.
* Moments of the wall clock and of the simulation by their distance from now.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from random import Random
from types import FunctionType, MethodType
from typing import Any

import msgspec

from relaybroker.testing.simulation.timeline import Appointment, Pipe, Timeline
from relaybroker.testing.simulation.world import World

FIRST_POSITION = 10**9
"""The log of an explored world begins here."""
_MOST_POSITIONS = 10**6
_A_MOMENT_AFTER = 1e9
"""Larger numbers with a fraction are moments of the wall clock."""
_DERIVED = re.compile(r"([0-9a-f]{16,}|(?<=@)1\d{9}\b)")
_TELLS_ONLY = {
    "State": {
        "position",
        "now",
        "entropy",
        "epoch",
        "counters",
        "notified",
        "announcements",
        "announced",
        "crashes",
        "seen_messages",
        "settings",
    },
    "Promises": {"marks", "decided", "typed_total", "engine_forgot", "_ended"},
    "Engine": {"close_node_side"},
    "Recorded": {"at", "input_json", "causation"},
}
"""Class -> fields that decide nothing."""
_PLUMBING = (Timeline, Random, World, FunctionType, MethodType)


def canonical(world: World, budget: Mapping[str, int]) -> bytes:
    """16 bytes that are the same for worlds that go on alike, with as much left to happen."""
    form = _Form(world.timeline)
    form.add(dict(budget))
    form.add(world.state)
    node = world.node
    form.add((node.boots, node.machine_boots, node.token_serial, node._dial, node._attaching, node.armed))
    form.add(list(node._inbox))
    disk = world.disk
    unsafe = [*disk._syncing, *disk._unsynced], [*disk._writing, *disk._waiting]
    form.add([[(batch.events, batch.effects) for batch in batches] for batches in unsafe])
    form.add(disk.position - disk.synced)
    form.add(world.engine)
    form.add(world.host)
    form.add(world.promises)
    what_and_whose = sorted(under_way(world.timeline), key=lambda one: (one[0].what.__qualname__, str(owner(one[0]))))
    for appointment, when in what_and_whose:
        form.add((appointment.what.__qualname__, when - world.timeline.now))
        form.add(owner(appointment))
        form.add(appointment.arguments)
    return form.digest()


def under_way(timeline: Timeline) -> list[tuple[Appointment, float]]:
    """Everything that is to happen, by what it is, then in its order."""
    entries = [(when, order, one) for when, order, one in timeline._heap if not one.cancelled]
    entries.sort(key=lambda entry: (entry[2].what.__qualname__, str(owner(entry[2])), entry[1]))
    return [(one, when) for when, _, one in entries]


def owner(appointment: Appointment) -> tuple[Any, ...]:
    """Which pipe an item is in: what takes it at its end (`frame`, `take`, `reported`, `requested`), and of which connection."""
    pipe = getattr(appointment.what, "__self__", None)
    if not isinstance(pipe, Pipe):
        return ()
    taken_by: Any = pipe._take
    return (taken_by.__code__.co_names[-1].strip("_"), *_cells(taken_by))


def _cells(function: Any) -> list[Any]:
    """Plain values that a function has kept."""
    kept = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return [value for value in kept if isinstance(value, int | str)]


class _Form:
    """Flat list of words; positions and derived ids are replaced when everything is there."""

    def __init__(self, timeline: Timeline) -> None:
        self._words: list[Any] = []
        self._positions: set[int] = set()
        self._ids: dict[str, str] = {}
        self._wall = timeline.wall()
        self._now = timeline.now
        self._met: dict[int, int] = {}

    def digest(self) -> bytes:
        """What it all comes to."""
        rank = {position: f"@{number}" for number, position in enumerate(sorted(self._positions))}
        words = [rank[word] if type(word) is int and _is_position(word) else word for word in self._words]
        return hashlib.blake2b(repr(words).encode(), digest_size=16).digest()

    def words(self) -> list[Any]:
        """The form itself, for a person who asks why two worlds differ."""
        return self._words

    def add(self, value: Any) -> None:
        """Append a value and all that belongs to it."""
        match value:
            case None | bool() | bytes():
                self._words.append(value)
            case int():
                if _is_position(value):
                    self._positions.add(value)
                self._words.append(value)
            case float():
                self._words.append(round(value - self._wall if value > _A_MOMENT_AFTER else value, 4))
            case str():
                self._add_text(value)
            case Mapping():
                self._words.append("{")
                for key, one in value.items():
                    self.add(key)
                    self.add(one)
                self._words.append("}")
            case AbstractSet():
                self.add(sorted(value, key=repr))
            case Sequence():
                self._words.append("[")
                for one in value:
                    self.add(one)
                self._words.append("]")
            case _:
                self._add_object(value)

    def _add_object(self, value: Any) -> None:
        if isinstance(value, _PLUMBING):
            return
        if isinstance(value, Pipe):
            self._words.append(("pipe", value.is_cut))
            return
        if (number := self._met.get(id(value))) is not None:
            self._words.append(("again", number))
            return
        kind = type(value)
        if not isinstance(value, msgspec.Struct):
            self._met[id(value)] = len(self._met)
        names = kind.__struct_fields__ if isinstance(value, msgspec.Struct) else _members(value)
        left_out = _TELLS_ONLY.get(kind.__name__, ())
        self._words.append(kind.__name__)
        for name in names:
            if name not in left_out:
                self.add(getattr(value, name))

    def _add_text(self, text: str) -> None:
        for number, part in enumerate(_DERIVED.split(text)):
            if number % 2 == 0:
                self._words.append(part)
            elif part.isdecimal() and _is_position(int(part)):
                self.add(int(part))
            else:
                self._words.append(self._ids.setdefault(part, f"~{len(self._ids)}"))


def _is_position(value: int) -> bool:
    return FIRST_POSITION <= value < FIRST_POSITION + _MOST_POSITIONS


def _members(value: Any) -> list[str]:
    if hasattr(value, "__dict__"):
        return list(value.__dict__)
    return list(getattr(type(value), "__slots__", ()))

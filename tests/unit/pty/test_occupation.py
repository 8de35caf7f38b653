"""Who has a terminal, and when a keyboard is a person's."""

from __future__ import annotations

import asyncio

import pytest

from relaybroker.adapters.sessions.host.process_table import Wait
from relaybroker.adapters.sessions.host.protocol import Freed, Occupied
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal import occupation as occupation_module
from relaybroker.adapters.sessions.terminal.composer import Composer
from relaybroker.adapters.sessions.terminal.foreground import Foreground
from relaybroker.adapters.sessions.terminal.occupation import (
    HUMAN_QUIET_S,
    REACTION_S,
    Occupant,
    Occupation,
    Person,
    Seen,
    occupant,
)
from relaybroker.adapters.sessions.terminal.sight import Sight
from tests.waiting import WAIT_S


@pytest.mark.parametrize(
    "keys",
    [[b"abc"], [b"abc\r", b"d"], [b"\x1b[200~a\nb\n\x1b[201~"], [b"\xc3\xa9"], [b"ab\x7f"], [b"\x15x"], [b"a\x1b[D"]],
)
def test_a_begun_line_is_a_persons_for_ever(keys):
    person = Person()
    for data in keys:
        person.typed(data, 0.0)
    assert person.types(1e6)


@pytest.mark.parametrize(
    "keys", [[b"abc\r"], [b"a", b"\n"], [b"abc\x15"], [b"abc", b"\x03"], [b"\x1b[200~a\nb\x1b[201~\r"]]
)
def test_a_submitted_or_cleared_line_is_free_when_the_program_could_show_what_it_made_of_it(keys):
    person = Person()
    ended = [person.typed(data, 0.0) for data in keys]
    assert ended[-1]
    assert not person.types(0.0)
    assert not person.is_answered(1.0, 3), "the program has not even read it"
    assert not person.is_answered(1.1, 0)
    assert person.is_answered(1.1 + REACTION_S, 0)


def test_a_line_that_was_submitted_long_ago_holds_nothing():
    person = Person()
    person.typed(b"abc\r", 0.0)
    assert person.is_answered(60.0, None)


@pytest.mark.parametrize("keys", [b"a\x7f", b"ab\x7f\x7f\x7f", b"\x1b[A", b"\x1bOA", b"\x1b"])
def test_keys_that_leave_no_text_count_for_a_while(keys):
    person = Person()
    assert not person.typed(keys, 10.0)
    assert person.types(10.0 + HUMAN_QUIET_S - 0.01)
    assert not person.types(10.0 + HUMAN_QUIET_S)


@pytest.mark.parametrize(
    "keys", [b"", b"\x1b[I", b"\x1b[O\x1b[I", b"\x1b[<35;10;20M", b"\x1b[12;40R", b"\x1b[?1;2c", b"\x1bP1$r0m\x1b\\"]
)
def test_what_a_terminal_sends_by_itself_is_nobodys(keys):
    person = Person()
    assert not person.typed(keys, 0.0)
    assert not person.types(0.0)


def seen(
    profile="default",
    *,
    sight=None,
    person=False,
    pend=False,
    spawned=None,
    stopped=False,
    same_group=True,
    waits=Wait.READ,
):
    own = harnesses.profile(profile)
    front = Foreground(own, 7, "it", stopped=stopped, same_group=same_group, group=7)
    return Seen(
        front,
        sight or Sight(None, works=False, question=None),
        person,
        pend,
        harnesses.profile(spawned or profile),
        lambda: waits,
    )


def shows(text, *, works=False):
    return Sight(None if text is None else Composer(1, 1, text), works=works, question=None)


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (seen("claude", sight=shows("")), None),
        (seen("claude", sight=shows("", works=True)), "agent_busy"),
        (seen("claude", sight=shows(None, works=True)), "agent_busy"),
        (seen("claude", sight=shows(None)), "agent_busy"),
        (seen("claude", sight=shows("half a text")), "composer_unclear"),
        (seen("claude", sight=shows(""), person=True), "human_driving"),
        (seen("claude", sight=shows(""), stopped=True), "agent_suspended"),
        (seen("claude", sight=shows(""), person=True, stopped=True), "agent_suspended"),
        (seen("default"), None),
        (seen("default", waits=Wait.POLL), None),
        (seen("default", waits=None), None),
        (seen("default", waits=Wait.NO), "agent_busy"),
        (seen("default", person=True), "human_driving"),
        (seen("default", pend=True), "human_driving"),
        (seen("default", stopped=True), "agent_suspended"),
        (seen("shell"), None),
        (seen("shell", person=True), "human_driving"),
        (seen("shell", waits=Wait.NO), None),
        (seen("shell", stopped=True), "agent_suspended"),
        (seen("default", spawned="shell", same_group=False), "agent_busy"),
        (seen("default", spawned="claude", same_group=False), "agent_busy"),
        (seen("default", spawned="default", same_group=False), None),
        (seen("claude", sight=shows(""), spawned="shell", same_group=False), None),
        (seen("shell", spawned="claude", same_group=False), None),
    ],
)
def test_who_has_a_terminal_is_told_by_one_look(look, reason):
    """F021, F084, F085, F087; a shell is shown its messages whoever types in it, and whatever it was started for."""
    holder = occupant(look)
    assert (holder.reason if holder else None) == reason


def test_only_a_program_that_shows_its_composer_while_it_works_is_typed_at_after_a_while():
    assert occupant(seen("claude", sight=shows("", works=True))).patience_s == 300.0
    assert occupant(seen("claude", sight=shows(None, works=True))).patience_s == 0.0
    assert occupant(seen("claude", sight=shows("text"))).patience_s == 0.0
    assert occupant(seen("default", waits=Wait.NO)).patience_s == 0.0


class Terminal:
    """A session for one occupation."""

    def __init__(self):
        self.facts: list[object] = []
        self.now: Occupant | None = None
        self.moves = 0

    def report(self, fact):
        self.facts.append(fact)

    def occupant_now(self):
        return self.now

    def occupation_moved(self):
        self.moves += 1

    def repaint(self):
        raise AssertionError("nothing here is stale")

    def kinds(self):
        return [type(fact) for fact in self.facts]


BUSY = Occupant("agent_busy", "it works", 300.0)
DRIVEN = Occupant("human_driving", "keys of a person")


async def test_what_is_new_is_reported_once_and_anew_after_a_dialog():
    terminal = Terminal()
    occupation = Occupation(terminal)
    occupation.note(None)
    assert terminal.facts == []
    occupation.note(BUSY)
    occupation.note(BUSY)
    assert terminal.facts == [Occupied(reason="agent_busy", detail="it works", patience_s=300.0)]
    occupation.forget()
    occupation.note(BUSY)
    assert terminal.kinds() == [Occupied, Occupied]
    occupation.note(DRIVEN)
    assert terminal.kinds()[2:] == [Freed, Occupied]
    occupation.note(None)
    assert terminal.kinds()[-1] is Freed
    assert terminal.moves == 4
    occupation.close()


async def test_a_terminal_that_is_not_free_is_looked_at_until_it_is(monkeypatch):
    monkeypatch.setattr(occupation_module, "LOOK_S", 0.001)
    terminal = Terminal()
    terminal.now = BUSY
    occupation = Occupation(terminal)
    occupation.note(BUSY)
    await asyncio.sleep(0.02)
    assert terminal.kinds() == [Occupied]
    terminal.now = None
    async with asyncio.timeout(WAIT_S):
        while terminal.kinds() != [Occupied, Freed]:
            await asyncio.sleep(0.001)
    occupation.close()


async def test_nothing_is_reported_of_a_closed_terminal():
    terminal = Terminal()
    occupation = Occupation(terminal)
    occupation.close()
    occupation.note(BUSY)
    assert terminal.facts == []

"""When a keyboard is a person's."""

from __future__ import annotations

import pytest

from adapters.pty.harnesses import profile
from adapters.pty.occupation import HUMAN_QUIET_S, Occupation, Person
from adapters.pty.protocol import Freed, Occupied


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
def test_a_submitted_or_cleared_line_is_free_at_once(keys):
    person = Person()
    ended = [person.typed(data, 0.0) for data in keys]
    assert ended[-1]
    assert not person.types(0.0)


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


class Terminal:
    """A session for one occupation."""

    def __init__(self, name):
        self.profile = profile(name)
        self.rows: list[str] = []
        self.another = False
        self.facts: list[object] = []

    def report(self, fact):
        self.facts.append(fact)

    def shown(self):
        return self.rows

    def runs_another(self):
        return self.another

    def occupation_moved(self):
        pass


async def test_changes_are_reported_once_and_anew_after_a_dialog():
    now = 0.0
    terminal = Terminal("claude")
    occupation = Occupation(terminal, lambda: now)
    assert occupation.look() is None
    terminal.rows = ["✻ Thinking… (esc to interrupt)", "", "> ", *[" "] * 12]
    first = occupation.look()
    assert first == occupation.look()
    assert [type(fact) for fact in terminal.facts] == [Occupied]
    occupation.forget()
    occupation.look()
    assert [type(fact) for fact in terminal.facts] == [Occupied, Occupied]
    occupation.person.typed(b"x", now)
    assert occupation.look().reason == "human_driving"
    assert [type(fact) for fact in terminal.facts[2:]] == [Freed, Occupied]
    occupation.person.typed(b"\r", now)
    terminal.rows = ["esc to interrupt", *["later words"] * 12]
    assert occupation.look() is None
    assert isinstance(terminal.facts[-1], Freed)
    occupation.close()


async def test_only_a_shells_foreground_counts():
    for name, busy in (("shell", True), ("python", False), ("claude", False)):
        terminal = Terminal(name)
        terminal.another = True
        occupation = Occupation(terminal, lambda: 0.0)
        assert (occupation.look() is not None) is busy
        occupation.close()

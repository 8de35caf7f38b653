"""What a program asks in a session holds every message, is answered by none, and lets them through when it is gone."""

from __future__ import annotations

import re
import time
from functools import partial

import pytest

from tests.agents import install
from tests.agents.bench import Bench
from tests.agents.conftest import Opener
from tests.agents.questions import DIALOGS, Dialog

HELD_S = 8.0


@pytest.mark.parametrize("name", sorted({name for dialogs in DIALOGS.values() for name in dialogs}))
def test_a_question_in_a_session_holds_messages(
    opened: Opener, installed: install.Installed, name: str, request: pytest.FixtureRequest
) -> None:
    dialog = DIALOGS[installed.program].get(name)
    if dialog is None:
        pytest.skip(f"{installed.program} has no such question")
    request.node.add_marker(pytest.mark.holds(f"{name}: held and named, then delivered"))
    bench = opened()
    if dialog.setup is not None:
        bench.home = dialog.setup(bench.home)
    bench.spawn()
    bench.until_composer()
    bench.until(lambda: bench.agent()["ready"], 75, "ready")
    if dialog.before:
        bench.keys(dialog.before)
    probe = bench.folder / "probe"
    _ask(bench, dialog, str(probe))
    bench.until(lambda: _shows(bench, dialog.shows), 40, f"the question: {dialog.shows}")

    identifier = bench.send("and one more thing")
    bench.until(lambda: bench.agent().get("blocked_by"), 5, "the broker names what it found")
    bench.stays(
        lambda: identifier not in bench.acked() and _shows(bench, dialog.shows), HELD_S, f"{dialog.shows} stays"
    )
    assert bench.agent()["blocked_by"], bench.account()
    assert not probe.exists()
    assert not (bench.home.project / "new.txt").exists()

    for _ in range(3):  # a search field within a panel takes the first Escape for itself
        bench.keys(dialog.deny)
        time.sleep(1.5)
        if not _shows(bench, dialog.shows):
            break
    bench.until_arrived([identifier], 40)
    bench.until_acked([identifier], 15)
    assert bench.arrivals()[identifier] == 1
    assert not probe.exists()
    assert not (bench.home.project / "new.txt").exists()


def _ask(bench: Bench, dialog: Dialog, probe: str) -> None:
    """A command is typed by a person, everything else is a message."""
    for prompt in dialog.prompt.split("\f"):
        text = prompt.replace("PROJECT", str(bench.home.project)).replace("PROBE", probe)
        if text.startswith("/"):
            bench.typed(text)
            bench.until(partial(_is_shown, bench, text), 10, f"{text} stands there")
            bench.keys("\r")
            continue
        identifier = bench.send(text)
        bench.until(partial(_is_there_or_asked, bench, identifier, dialog), 60, "the model or the question")


def _is_there_or_asked(bench: Bench, identifier: str, dialog: Dialog) -> bool:
    """aider asks before the model has a word in it."""
    return identifier in bench.arrivals() or _shows(bench, dialog.shows)


def _is_shown(bench: Bench, text: str) -> bool:
    return (bench.composer() or "").startswith(text)


def _shows(bench: Bench, text: str) -> bool:
    with bench.tap().lock:
        return re.sub(r"\s", "", text) in bench.tap().screen.flat

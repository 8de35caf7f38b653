"""Profiles of the operator's own programs, as users have them: docs/harnesses.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relaybroker.testing.live import LiveBroker
from relaybroker.testing.refusal import Refused

PAGE = Path(__file__).parents[2] / "docs" / "harnesses.md"
PROGRAM = "#!/bin/sh\nprintf '%s\\nourbot ready\\n%s\\n> ' ---------------- ----------------\ncat >\"$1\"\n"
SHOWN = "name = 'talking'\ncommands = ['talking']\ntreatment = 'show'\n"


@pytest.fixture
def desk(tmp_path):
    own = tmp_path / "config" / "relaybroker" / "harnesses"
    own.mkdir(parents=True)
    (own / "talking.toml").write_text(SHOWN)
    program = tmp_path / "talking"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (tmp_path / "broker").mkdir()
    broker = LiveBroker(tmp_path / "broker", {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    broker.own, broker.program = own, program
    yield broker
    broker.close()


def evidence(broker, message):
    found = broker.api("GET", f"/api/why/{message}")["stories"]
    return [
        step["detail"]["evidence"] for one in found for step in one["steps"] if step["event"] == "delivery.injected.v1"
    ]


def spawned(broker, name):
    file = broker.folder / f"{name}.read"
    broker.spawn(name, cli=f"{broker.program} {file}")
    return file


def test_a_profile_reaches_the_terminal_and_a_changed_one_with_the_next_broker(desk):
    """The PTY host lives on; the profiles are those of the broker that is there."""
    desk.start()
    file = spawned(desk, "w1")
    shown = desk.deliver("w1", "shown to you")
    desk.wait(lambda: evidence(desk, shown) == ["shown"], what="it was shown")
    assert "shown to you" not in file.read_text()
    with pytest.raises(Refused, match="nearest: talking"):
        desk.spawn("w2", cli="cat", harness="talkin")

    desk.kill()
    (desk.own / "talking.toml").write_text("name = 'talking'\ncommands = ['talking']\nplain_program = true\n")
    desk.start()
    file = spawned(desk, "w3")
    typed = desk.deliver("w3", "typed to you")
    desk.wait(lambda: "typed to you" in file.read_text(), what="it was typed")
    desk.wait(lambda: evidence(desk, typed) != [], what="it is known")
    assert evidence(desk, typed) != ["shown"]

    desk.stop()
    (desk.own / "talking.toml").write_text("name = 'talking'\ncomands = ['talking']\n")
    with pytest.raises(AssertionError, match=r"talking\.toml: comands: is no key of a profile; nearest: commands"):
        desk.start()


def test_the_profile_of_the_page_is_one(tmp_path):
    (text,) = re.findall(r"```toml\n(name = .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    from relaybroker.config.harness_files import harness_files

    (tmp_path / "ourbot.toml").write_text(text)
    assert list(harness_files(tmp_path).values()) == [text]

"""Sixty mistakes: each is answered with what is wrong, why, and what to do, with the status that says so, and never with a trace."""

from __future__ import annotations

import json
import re
import socket

import pytest
from click.testing import CliRunner

from relaybroker.cli.app import cli
from tests.unit.cli.conftest import write_state

MISTAKES: tuple[tuple[str, int, str], ...] = (
    # misspelt commands and options
    ("", 2, "Usage"),
    ("stauts", 2, "status"),
    ("agnet ls", 2, "agent"),
    ("agent lst", 2, "ls"),
    ("agent spwan x cat", 2, "spawn"),
    ("dead-leters ls", 2, "dead-letters"),
    ("log tial", 2, "tail"),
    ("log exprot", 2, "export"),
    ("delivery lss", 2, "ls"),
    ("machine shwo delivery", 2, "show"),
    ("status --jsn", 2, "--json"),
    ("up --detatch", 2, "--detach"),
    ("up --api-prot 7", 2, "--api-port"),
    ("log tail --folow", 2, "--follow"),
    ("service instal", 2, "install"),
    ("metrics alrets", 2, "alerts"),
    ("completion tcsh", 2, "bash"),
    # arguments that are missing or of another kind
    ("why", 2, "IDENTIFIER"),
    ("agent show", 2, "NAME"),
    ("agent spawn x", 2, "COMMAND"),
    ("message send w1", 2, "TEXT"),
    ("log show ten", 2, "integer"),
    ("log show 0", 2, "range"),
    ("log tail -n -5", 2, "range"),
    ("up --api-port seven", 2, "integer"),
    ("agent mode w1 sometimes", 2, "auto_inject"),
    ("log archive --keep 1", 2, "range"),
    ("log grep --since yesterday", 2, "15m"),
    ("log grep --until 99:99", 2, "2026-01-31T12:00:00"),
    ("log export --redact", 2, "--session"),
    ("dead-letters redeliver --state-dir STATE", 4, "relaybroker up"),
    ("replay FOLDER", 3, "FOLDER"),
    ("replay FOLDER/none.jsonl", 3, "none.jsonl"),
    ("replay FOLDER/text.txt", 2, "text.txt"),
    # the wrong directory, no broker, a dead one
    ("status --state-dir FOLDER/none", 4, "relaybroker up --detach"),
    ("status --state-dir STATE", 4, "relaybroker log tail"),
    ("agent ls --state-dir FOLDER/none", 4, "relaybroker up --detach"),
    ("top --state-dir FOLDER/none", 2, "relaybroker status --json"),
    ("open --state-dir FOLDER/none", 4, "relaybroker up --detach"),
    ("metrics show --state-dir FOLDER/none", 4, "relaybroker up --detach"),
    ("apply --state-dir FOLDER/none", 3, "relaybroker config"),
    ("message send w1 hello --state-dir FOLDER/none", 4, "relaybroker up --detach"),
    ("down --state-dir FOLDER/none", 4, "none"),
    ("status --state-dir DEAD", 4, "relaybroker up --detach"),
    ("agent ls --state-dir DEAD", 4, "relaybroker down"),
    ("status --state-dir DAMAGED", 4, "relaybroker up --detach"),
    # the log
    ("log tail --state-dir FOLDER/none", 3, "--state-dir"),
    ("log verify --state-dir FOLDER", 3, "--state-dir"),
    ("log tail --name dekc --state-dir STATE", 3, "desk"),
    ("why nobody --state-dir STATE", 3, "relaybroker delivery ls"),
    ("why del_M --state-dir STATE", 2, "ambiguous"),
    ("log show 100000 --state-dir STATE", 3, "ends at"),
    ("log grep --reason bored --state-dir STATE", 2, "reason"),
    ("log grep --machine engine --state-dir STATE", 2, "there are: action"),
    ("log grep --text nothing-like-it --state-dir STATE", 3, "relaybroker log stats"),
    ("delivery ls --state akced --state-dir STATE", 2, "acked"),
    ("machine show devilery", 3, "delivery"),
    ("log verify --state-dir BROKEN", 1, "log verify"),
    # settings
    ("config --config FOLDER/none.toml", 3, "relaybroker config"),
    ("config --config FOLDER/text.txt", 2, "no TOML"),
    ("config --config FOLDER/misspelt.toml", 2, "Did you mean max_agents"),
    ("config --config FOLDER/secret.toml", 2, "RELAY_WORKSPACE_KEY"),
    ("apply --config FOLDER/agent.toml --state-dir STATE", 2, "Did you mean channels"),
    ("service status --config FOLDER/good.toml", 3, "relaybroker service install"),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Directories and files that somebody may take for the right ones."""
    state = write_state(tmp_path_factory.mktemp("state"))
    folder = tmp_path_factory.mktemp("mistakes") / "elsewhere"
    dead, damaged, broken = (folder / name for name in ("dead", "damaged", "broken"))
    for place in (folder, dead, damaged, broken):
        place.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (dead / "connection.json").write_text(
        json.dumps({"url": f"http://127.0.0.1:{port}", "port": port, "api_key": "br_x", "pid": 1})
    )
    (damaged / "connection.json").write_text("{")
    (broken / "journal-desk.sqlite").write_bytes(b"this is no database" * 100)
    (folder / "text.txt").write_text("some text: [")
    (folder / "misspelt.toml").write_text("max_agnets = 1")
    (folder / "secret.toml").write_text('workspace_key = "rk_live_secret"')
    (folder / "agent.toml").write_text('[agents.w1]\ncli = "cat"\nchanels = []')
    (folder / "good.toml").write_text('name = "nobody-installed-this"')
    by_word = {"STATE": state, "FOLDER": folder, "DEAD": dead, "DAMAGED": damaged, "BROKEN": broken}
    return {name: str(path) for name, path in by_word.items()}


@pytest.fixture
def places(made, monkeypatch):
    """The same, and a person who stands among them."""
    folder = made["FOLDER"]
    for name in (
        "AGENT_RELAY_STATE_DIR",
        "RELAY_BROKER_URL",
        "RELAYBROKER_URL",
        "RELAY_AGENT_TOKEN",
        "RELAYBROKER_CONFIG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", f"{folder}/config")
    monkeypatch.chdir(folder)
    return made


def _words(line, places):
    for name, path in places.items():
        line = re.sub(rf"\b{name}\b", path, line)
    return line.split()


def test_there_are_sixty():
    assert len({line for line, _, _ in MISTAKES}) >= 60


@pytest.mark.parametrize(("line", "status", "says"), MISTAKES, ids=[line or "nothing" for line, _, _ in MISTAKES])
def test_a_mistake_is_answered_with_what_to_do(line, status, says, places):
    done = CliRunner().invoke(cli, _words(line, places))
    assert isinstance(done.exception, SystemExit), done.exception
    said = done.output
    assert done.exit_code == status, said
    wanted = places.get(says, says)
    assert wanted in said
    assert "Traceback" not in said
    assert "rk_live_secret" not in said


@pytest.mark.parametrize(
    "line",
    [
        line
        for line, _, _ in MISTAKES
        if line and not line.startswith(("completion", "metrics", "top", "agent spawn x"))
    ],
)
def test_the_same_mistake_is_an_object_for_programs(line, places):
    done = CliRunner().invoke(cli, [*_words(line, places), "--json"])
    error = json.loads(done.stdout)["error"]
    assert error["status"] == done.exit_code != 0
    assert error["message"]
    assert error["code"]

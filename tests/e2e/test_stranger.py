"""A stranger's path, with the wheel alone in an environment of its own: install, start a fleet, kill, go on, end, and nothing is left."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import site
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path

import psutil
import pytest

from tests.waiting import WAIT_S

ROOT = Path(__file__).parents[2]
FLEET = """
name = "stranger"

[agents.notes]
cli = "cat"

[agents.echo]
cli = "cat -v"
channels = ["general"]

[agents.shell]
cli = "sh"
task = "echo started"
"""
STAYS = ("journal-stranger.", ".gitignore", "workspace.json", "memory-stranger.json", "fleet-stranger.json", "broker.out",
         "host-stranger.log", "host-stranger.sock.lock", "broker-stranger.lock", "engine", "team", "continuity")  # fmt: skip
"""What a stopped broker leaves in its state directory: the log, what it goes on from, and what was said."""


def _build(target: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1767225600"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    (made,) = target.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return _build(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_is_the_same_whenever_it_is_built(wheel, tmp_path):
    again = _build(tmp_path)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


class Stranger:
    """Somebody with a home directory and a project, who has the wheel and what it depends on."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.project.mkdir()
        venv.create(folder / "env", with_pip=False)
        python = folder / "env" / "bin" / "python"
        install = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "-q",
            "--no-deps",
            "--no-index",
            str(wheel),
        ]
        subprocess.run(install, check=True, capture_output=True)
        (place,) = (folder / "env" / "lib").glob("python*/site-packages")
        (place / "dependencies.pth").write_text(
            "\n".join(site.getsitepackages())
        )  # installed, and nothing of the checkout
        self.environment = {"HOME": str(folder), "PATH": f"{folder}/env/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}

    def run(self, *words: str, status: int | None = 0) -> str:
        done = subprocess.run(
            ["relaybroker", *words], cwd=self.project, env=self.environment, capture_output=True, text=True, timeout=WAIT_S, check=False,
            executable=str(self.folder / "env" / "bin" / "relaybroker"),
        )  # fmt: skip
        assert status in (None, done.returncode), done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        def is_ours(process: psutil.Process) -> bool:
            words = " ".join(process.info["cmdline"] or ())
            return str(self.folder) in words or str(self.folder) in (process.info["cwd"] or "")

        return [process for process in psutil.process_iter(["cmdline", "cwd"]) if is_ours(process)]

    def until(self, holds, what):
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, what
            time.sleep(0.05)


@pytest.fixture
def stranger(tmp_path, wheel):
    made = Stranger(tmp_path, wheel)
    yield made
    for process in made.processes():
        process.kill()


def test_a_stranger_gets_from_the_wheel_to_a_fleet_and_back_to_nothing(stranger):
    code = "import relaybroker; print(relaybroker.__file__)"
    where = subprocess.run(
        [stranger.folder / "env/bin/python", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert str(stranger.folder) in where.stdout, "the installed one, not the checkout"
    assert "KillMode=process" in stranger.run("service", "install", "--dry-run")
    (stranger.project / "relaybroker.toml").write_text(FLEET)
    stranger.run("up", "--detach")
    agents = json.loads(stranger.run("agent", "ls", "--json"))
    assert {row["name"] for row in agents} == {"notes", "echo", "shell"}
    _look_at_the_page(stranger)
    checks = json.loads(stranger.run("doctor", "--json"))
    assert [one for one in checks if one["grade"] == "broken"] == []
    sent = json.loads(stranger.run("message", "send", "notes", "hello", "--json"))["message_id"]
    stranger.until(lambda: "ACKED" in stranger.run("why", sent, status=None), "typed and acknowledged")

    connection = json.loads((stranger.project / ".agentworkforce/relay/connection.json").read_text())
    os.kill(connection["pid"], signal.SIGKILL)
    stranger.run("up", "--detach")
    again = json.loads(stranger.run("agent", "ls", "--json"))
    assert {row["name"]: row["pid"] for row in again} == {row["name"]: row["pid"] for row in agents}, "nobody died"
    _look_at_the_page(stranger)
    stranger.run("down")
    stranger.until(lambda: not stranger.processes(), "no process is left")
    state = stranger.project / ".agentworkforce" / "relay"
    assert [path.name for path in state.iterdir() if not path.name.startswith(STAYS)] == []
    assert stranger.run("log", "verify").startswith(str(json.loads(stranger.run("log", "verify", "--json"))["events"]))
    assert list((stranger.folder / ".local/share/agent-relay/run").glob("*")) == [], "no secret of an agent is left"


def _look_at_the_page(stranger: Stranger) -> None:
    url = json.loads(stranger.run("open", "--json"))["url"]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    assert b"/ui" in opener.open(url, timeout=WAIT_S).read()
    base = url.partition("/ui")[0]
    assert b"relaybroker" in opener.open(f"{base}/ui", timeout=WAIT_S).read()
    # the cookie is sent to 127.0.0.1 as to any host
    assert len(json.loads(opener.open(f"{base}/api/status", timeout=WAIT_S).read())["agents"]) == 3

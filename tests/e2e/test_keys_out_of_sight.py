"""Keys are where nobody looks: not in the arguments, not in the environment, and not at a port that somebody else has taken."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from relaybroker.cli.hidden_secrets import without_key
from tests.scripted_engine import KEY, ScriptedEngine

OPERATORS = "br_key_of_the_operator_0123456789"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["python", "-m", "relaybroker", "init", "--workspace-key", "rk_x", "-x"], ["python", "-m", "relaybroker", "init", "-x"]),
        (["broker", "init", "--workspace-key=rk_x"], ["broker", "init"]),
        (["broker", "init", "--workspace-key"], ["broker", "init"]),
        (["broker", "up", "--name", "x"], ["broker", "up", "--name", "x"]),
    ],
)  # fmt: skip
def test_a_command_line_loses_its_key_and_nothing_else(given, kept):
    assert without_key(given) == kept


@pytest.fixture
async def made(tmp_path, make_deployment):
    """A broker that was given its keys by an argument and by the environment, as existing clients do."""
    async with ScriptedEngine() as engine:
        made = make_deployment(tmp_path, RELAY_BASE_URL=engine.url, RELAY_BROKER_API_KEY=OPERATORS)
        with (tmp_path / "broker.out").open("ab") as output:
            made.broker = subprocess.Popen(
                [sys.executable, "-m", "relaybroker", "init", "--instance-name", "desk", "--workspace-key", KEY, "--persist",
                 "--state-dir", str(made.state)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=made.environment(), cwd=tmp_path,
            )  # fmt: skip
        try:
            await made.until(made._answers, "the broker is ready")
            yield made
        finally:
            made.broker.kill()
            made.broker.wait()
            subprocess.run(
                [sys.executable, "-m", "relaybroker", "down", "--state-dir", str(made.state)],
                env=made.environment(),
                check=False,
            )


def _open_files(process: Path) -> Iterator[str]:
    """The names behind its descriptors; one that the broker closes meanwhile is passed over."""
    for descriptor in os.listdir(process / "fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(process / "fd" / descriptor)


async def test_keys_are_in_nobodys_arguments_and_environment_and_go_to_no_stranger(made):
    """And the broker has them all the same: it answers to the one and enrolled with the other."""
    process = Path(f"/proc/{made.broker.pid}")
    for part in ("cmdline", "environ"):
        content = (process / part).read_bytes()
        assert KEY.encode() not in content, part
        assert OPERATORS.encode() not in content, part
    assert "memfd" not in "".join(_open_files(process)), "read once and closed"
    connection = made.connection()
    assert connection["api_key"] == OPERATORS

    made.broker.send_signal(signal.SIGKILL)
    made.broker.wait()
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", connection["port"])) as thief:

        def listen():
            while True:
                try:
                    client, _ = thief.accept()
                except OSError:
                    return
                with client:
                    heard.append(client.recv(65536))
                    client.sendall(
                        b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\nConnection: close\r\n\r\n{"proof":"abc"}'[:-1]
                    )

        threading.Thread(target=listen, daemon=True).start()
        for words in (["status"], ["message", "send", "w1", "secret words"], ["agent", "ls"]):
            got = subprocess.run(
                [sys.executable, "-m", "relaybroker", *words, "--state-dir", str(made.state)],
                capture_output=True, text=True, env=made.environment() | {"RELAY_BROKER_API_KEY": ""}, check=False,
            )  # fmt: skip
            assert got.returncode == 4, got
            assert "another program listens" in got.stderr
        thief.shutdown(socket.SHUT_RDWR)
    assert heard
    assert not [request for request in heard if OPERATORS.encode() in request or b"secret words" in request]


def test_a_stolen_port_of_the_engine_gets_no_token_and_stops_nothing(live_broker):
    """The broker reaches its engine by a socket of its own; the engine takes its port back when it is free."""
    live_broker.spawn("w1")
    record = json.loads((live_broker.state_dir / "engine" / "engine.json").read_text())
    socket_file = live_broker.state_dir / "engine" / "engine.sock"
    assert socket_file.stat().st_mode & 0o777 == 0o600
    os.kill(record["pid"], signal.SIGSTOP)  # it takes nothing back before the port is stolen
    heard: list[bytes] = []
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    os.kill(record["pid"], signal.SIGKILL)
    live_broker.wait(lambda: _bound(thief, record["port"]), what="the port is stolen")
    thief.listen()
    thief.settimeout(0.2)
    live_broker.wait(
        lambda: _heard(thief, heard) or _again(live_broker, record["pid"]), what="another engine runs, without the port"
    )
    live_broker.wait(
        lambda: _heard(thief, heard) or live_broker.api("GET", "/api/status")["link"]["state"] == "online",
        what="online",
    )
    live_broker.command("message", "send", "w1", "while the port was stolen")
    live_broker.expect_typed("w1", "while the port was stolen")
    _heard(thief, heard)
    assert not [said for said in heard if b"uthorization" in said]
    thief.close()
    url = f"http://127.0.0.1:{record['port']}/health"
    live_broker.wait(lambda: _serves(url), what="the engine has its port again")


def _bound(thief, port):
    try:
        thief.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def _heard(thief, heard):
    try:
        client, _ = thief.accept()
    except TimeoutError:
        return False
    with client:
        client.settimeout(0.2)
        try:
            heard.append(client.recv(65536))
        except TimeoutError:
            heard.append(b"")
    return False


def _again(broker, former):
    return json.loads((broker.state_dir / "engine" / "engine.json").read_text())["pid"] != former


def _serves(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False

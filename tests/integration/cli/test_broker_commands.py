"""`up --detach`, `status`, `down` with real brokers."""

from __future__ import annotations

import json
import subprocess
import sys
from urllib.request import urlopen

import psutil
import pytest

from relaybroker.adapters.eventstore.lock import StateLock
from tests.waiting import WAIT_S


def _processes(desk):
    return [p for p in psutil.process_iter(["cmdline"]) if str(desk.folder) in " ".join(p.info["cmdline"] or ())]


def health(desk):
    with urlopen(f"{desk.connection['url']}/health", timeout=WAIT_S) as answer:
        return json.load(answer)


def test_a_detached_broker_is_ready_when_the_command_returns_and_gone_after_down(desk):
    up = desk.run("up", "--detach", "--json")
    assert up.returncode == 0, up.stderr
    assert json.loads(up.stdout)["pid"] == desk.connection["pid"]
    assert desk.run("status").returncode == 0
    assert desk.run("down").returncode == 0
    desk.until(lambda: not _processes(desk), "broker, PTY host and engine ended")
    after = desk.run("status")
    assert after.returncode == 4
    assert "relaybroker up --detach" in after.stderr


def test_a_node_that_the_engine_refuses_is_an_error_with_its_reason_and_is_enrolled_when_asked(desk):
    """ADR-0065: nothing says "ready"; the broker stays, for the operator to mend the cause."""
    engine = desk.start("engine", "--db", str(desk.folder / "engine.db"), "--port", "0")
    assert engine.stdout is not None
    base_url = engine.stdout.readline().split()[-1]
    pinned = {"RELAY_NODE_TOKEN": "nt_live_not_of_this_engine", "RELAY_NODE_ID": "node_pinned"}
    up = desk.run("up", "--detach", RELAY_BASE_URL=base_url, **pinned)
    assert up.returncode == 5, up.stdout + up.stderr
    assert "token_rejected" in up.stderr
    assert "RELAY_NODE_TOKEN" in up.stderr
    assert "ready at" not in up.stdout
    assert "the engine refused this node" in (desk.state / "broker.out").read_text()
    assert health(desk)["ready"] is False
    again = desk.run("node", "enrol")
    assert again.returncode == 5
    assert "token_rejected" in again.stderr
    assert desk.run("down").returncode == 0
    engine.terminate()
    engine.communicate(timeout=WAIT_S)


def test_a_node_that_is_online_needs_no_enrolment(shared):
    assert health(shared)["ready"] is True
    done = shared.run("node", "enrol")
    assert (done.returncode, done.stdout) == (0, "The node was already online.\n")


def test_a_second_broker_is_refused_and_does_not_touch_the_output_of_the_first(shared):
    output = shared.state / "broker.out"
    output.write_bytes(output.read_bytes() + b"what the first one had to say\n")
    second = shared.run("up", "--detach", "--name", "desk")
    assert second.returncode == 1
    assert f"(pid: {shared.connection['pid']}, " in second.stderr
    assert "what the first one had to say" not in second.stderr, "only its own output is shown"
    assert b"what the first one had to say\n" in output.read_bytes()
    assert shared.run("status").returncode == 0


def test_a_killed_broker_is_no_broker_and_down_ends_what_it_left(running):
    running.kill_broker()
    dead = running.run("status")
    assert dead.returncode == 4
    assert "does not answer" in dead.stderr
    assert running.run("why", "w1").returncode == 0, "the log answers without a broker"
    assert running.run("log", "verify").returncode == 0
    down = running.run("down")
    assert down.returncode == 0
    assert "PTY host" in down.stdout
    running.until(lambda: not _processes(running), "PTY host, agent and engine ended")


def test_down_ends_every_broker_of_the_directory(running):
    """Each is asked by its own connection file; the shared one names the last."""
    assert running.run("up", "--detach", "--name", "other", RELAY_NODE_ID="node_other").returncode == 0
    down = running.run("down")
    assert down.returncode == 0, down.stderr
    assert "did not answer" not in down.stdout
    running.until(lambda: not _processes(running), "nothing is left")


def test_down_waits_for_a_broker_that_is_starting_instead_of_ending_its_host(desk):
    """A broker holds its lock before it has a connection.json."""
    desk.state.mkdir(mode=0o700)
    host = [
        sys.executable,
        "-c",
        "import time; time.sleep(60)",
        "relaybroker.adapters.sessions.host.host_main",
        str(desk.state),
    ]
    lock = StateLock(desk.state / "broker-desk.lock")
    with subprocess.Popen(host) as stand_in:
        (desk.state / "host-desk.pid").write_text(str(stand_in.pid))
        down = desk.start("down")
        with pytest.raises(subprocess.TimeoutExpired):
            down.wait(1.5)
        assert stand_in.poll() is None
        lock.release()
        assert down.communicate(timeout=WAIT_S)[1] == ""
        assert down.returncode == 0
        stand_in.wait(WAIT_S)


@pytest.mark.parametrize("content", ["{}", "[]", "not json", '{"url": 1, "api_key": "k"}'])
def test_a_damaged_connection_file_is_named_with_what_to_do(desk, content):
    desk.state.mkdir(mode=0o700)
    (desk.state / "connection.json").write_text(content)
    done = desk.run("agent", "ls")
    assert done.returncode == 4
    assert str(desk.state / "connection.json") in done.stderr
    assert "relaybroker up --detach" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_names_a_broker_too_and_no_output_shows_its_key(shared):
    """Local-api 4.2: RELAY_BROKER_URL and RELAY_BROKER_API_KEY."""
    connection = shared.connection
    named = {"RELAY_BROKER_URL": connection["url"], "RELAY_BROKER_API_KEY": connection["api_key"]}
    (shared.state / "connection.json").rename(shared.state / "hidden")
    try:
        _check_named(shared, named)
    finally:
        (shared.state / "hidden").rename(shared.state / "connection.json")


def _check_named(shared, named):
    listed = shared.run("agent", "ls", "--json", **named)
    assert [row["name"] for row in json.loads(listed.stdout)] == ["w1"]
    refused = shared.run("status", **(named | {"RELAY_BROKER_API_KEY": "wrong"}))
    assert refused.returncode == 5
    for words in (("status",), ("status", "--json"), ("agent", "show", "w1"), ("log", "export"), ("why", "w1")):
        done = shared.run(*words, **named)
        assert done.returncode == 0, done.stderr
        assert named["RELAY_BROKER_API_KEY"] not in done.stdout + done.stderr


def test_a_screen_is_printed_for_scripts(shared):
    """local-api.md section 4.2: the same order of url and key as existing clients."""
    assert shared.run("agent", "spawn", "shown", "--", "sh", "-c", "printf 'on the screen'; exec cat").returncode == 0
    try:
        shared.until(lambda: "on the screen" in shared.run("dump-pty", "shown").stdout, "it is shown")
        _check_printed(shared)
    finally:
        assert shared.run("agent", "release", "shown").returncode == 0  # other tests list the agents of this broker


def _check_printed(shared):
    ansi = shared.run("dump-pty", "shown", "--format", "ansi")
    assert ansi.stdout.startswith("\x1b[0m\x1b[H\x1b[2J")
    there = shared.connection
    away = shared.run("dump-pty", "shown", RELAY_BROKER_URL=there["url"], RELAY_BROKER_API_KEY="wrong")
    assert away.returncode == 1
    assert "broker returned 401: " in away.stderr
    right = shared.run("dump-pty", "shown", "--broker-url", there["url"], "--api-key", there["api_key"])
    assert "on the screen" in right.stdout
    assert shared.run("dump-pty", "nobody").returncode == 3

"""The commands against a running broker, as a person uses them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time

import ptyprocess

from tests.waiting import WAIT_S


def _read_until(terminal: ptyprocess.PtyProcess, wanted: bytes, limit_s: float = WAIT_S) -> bytes:
    seen = b""
    deadline = time.monotonic() + limit_s
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        seen += terminal.read(4096)
    return seen


async def test_a_person_attaches_types_and_leaves(deployment):
    await deployment.spawn("ann")

    def attend() -> None:
        command = [sys.executable, "-m", "relaybroker", "agent", "attach", "ann", "--state-dir", str(deployment.state)]
        terminal = ptyprocess.PtyProcess.spawn(command, env=deployment.environment(), cwd=str(deployment.folder))
        _read_until(terminal, b"ready")
        terminal.write(b"typed by a person\r")
        _read_until(terminal, b"typed by a person")
        terminal.write(b"\x1d")
        _read_until(terminal, b"[detached]")
        assert terminal.wait() == 0

    await asyncio.to_thread(attend)
    notes = deployment.folder / "ann.notes"
    await deployment.until(lambda: "typed by a person" in notes.read_text(), "the program has the line")


async def test_agents_and_messages_by_command(deployment):
    spawned = deployment.command("agent", "spawn", "w1", "cat", "--json")
    assert spawned.returncode == 0, spawned.stderr
    assert json.loads(spawned.stdout)["pid"] > 0
    sent = deployment.command("message", "send", "w1", "hello", "--json")
    message = json.loads(sent.stdout)["message_id"]
    await deployment.until_api(lambda s: s["totals"]["acked"] == 1, "acknowledged")
    assert deployment.command("why", message[:-2]).returncode == 0, "a unique prefix is enough"
    assert "w1" in deployment.command("agent", "ls").stdout
    assert re.search(r"^typed +1$", deployment.command("agent", "show", "w").stdout, re.MULTILINE)
    assert re.search("^link +online", deployment.command("status").stdout, re.MULTILINE)
    missing = deployment.command("message", "send", "nobody-here", "hello")
    assert missing.returncode == 3
    assert "there is no agent 'nobody-here'; see relaybroker agent ls" in missing.stderr
    assert deployment.command("agent", "release", "w1").returncode == 0
    again = deployment.command("agent", "release", "w1")
    assert (again.returncode, "no agent named w1" in again.stderr) == (3, True)


async def test_an_existing_client_starts_the_broker_under_its_old_name(deployment, tmp_path):
    """Checklist 1, 2, 4, 5: the executable's name and flags, one banner line, the lock's error text."""
    executable = os.path.join(os.path.dirname(sys.executable), "agent-relay-broker")
    place, project = tmp_path / "client", tmp_path / "project"
    project.mkdir()  # one directory is one node
    command = [
        executable,
        "init",
        "--instance-name",
        "proj",
        "--channels",
        "general",
        "--persist",
        "--state-dir",
        str(place),
    ]
    environment = deployment.environment() | {
        "RELAY_BASE_URL": deployment.engine,
        "RELAY_WORKSPACE_KEY": deployment.workspace,
        "RELAY_BROKER_API_KEY": "br_" + "a" * 32,
    }
    first = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=project,
    )
    try:
        assert first.stdout is not None
        banner = await asyncio.to_thread(first.stdout.readline)
        assert banner.startswith(b"[agent-relay] API listening on http://127.0.0.1:")
        await deployment.until((place / "connection.json").exists, "ready")
        second = await asyncio.to_thread(
            lambda: subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=environment,
                cwd=project,
                timeout=WAIT_S,
                check=False,
            )
        )
        assert second.returncode == 1
        expected = f"another broker instance is already running in this directory (pid: {first.pid}, {place})"
        assert expected in second.stderr.splitlines()
    finally:
        first.terminate()
        rest = await asyncio.to_thread(first.communicate)
    assert rest[0] == b"", "nothing else on standard output"
    assert first.returncode == 0
    assert not (place / "connection.json").exists()


async def test_a_person_holds_flushes_and_looks_through_dead_letters(deployment):
    """U13, F018, F029: with the commands alone."""

    def run(*words: str, status: int = 0) -> str:
        done = deployment.command(*words)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    await deployment.spawn("ann")
    assert "ann: manual_flush; 0 held." in run("agent", "mode", "ann", "manual_flush", "--reason", "I drive")
    await deployment.post("ann", "held for a moment")
    await deployment.until_api(lambda shown: shown["agents"][0]["held_count"], "held")
    assert "held for a moment" in run("agent", "pending", "ann")
    assert "held by a person: relaybroker agent flush ann" in run("status")
    assert "Released 1; 0 still held." in run("agent", "flush", "ann")
    await deployment.until(lambda: not deployment.missing(), "typed")
    assert "ann: auto_inject;" in run("agent", "mode", "ann", "auto_inject")
    big = await deployment.post("ann", "x" * 20_000)
    await deployment.until_api(lambda shown: shown["dead_letter_count"], "a dead letter")
    assert "too_large" in run("dead-letters", "ls")
    assert json.loads(run("dead-letters", "show", big, "--json"))["body_bytes"] == 20_000
    assert "[too_large]" in run("dead-letters", "redeliver", big, status=5)
    assert "stays a dead letter: " in run("dead-letters", "redeliver", "--all", status=5)
    assert "no dead letter" in run("dead-letters", "show", "nobody", status=3)
    run("dead-letters", "purge", status=2)
    assert "Purged 1." in run("dead-letters", "purge", "--all", "--agent", "ann")
    assert run("dead-letters", "ls") == "No dead letters.\n"
    why = deployment.command("why", big)
    assert "left the list: A person removed the dead letter" in why.stdout


async def test_what_is_delivered_to_the_node_is_shown_with_the_cursor_of_each_agent(deployment):
    await deployment.spawn("ann")
    await deployment.spawn("bob")
    message_id = await deployment.post("ann", "first")
    await deployment.until(lambda: message_id in deployment.received("ann"), "it is typed")
    await deployment.api("PUT", "/api/spawned/bob/delivery-mode", {"mode": "manual_flush"})
    held = await deployment.post("bob", "second")

    async def report():
        return (await deployment.api("GET", "/api/node-delivery"))[1]

    deadline = time.monotonic() + WAIT_S
    while True:
        shown = await report()
        cursors = {one["agent"]: one for one in shown["cursors"]}
        if cursors["ann"]["acknowledged"] == 1 and cursors["bob"]["open"] == [1]:
            break
        assert time.monotonic() < deadline, shown
        await asyncio.sleep(0.05)
    assert [cursors["ann"][key] for key in ("received", "settled", "open", "live")] == [1, 1, [], True]
    assert [cursors["bob"][key] for key in ("received", "settled", "acknowledged", "waits_for")] == [
        1,
        0,
        None,
        "manual_flush",
    ]
    assert {one["msg_id"]: one["state"] for one in shown["deliveries"]} == {message_id: "acked", held: "held"}
    assert shown["link"]["state"] == "online"
    said = deployment.command("node", "delivery", "bob").stdout
    assert held in said
    assert message_id not in said

"""Agents answer with their own tokens, on real processes: over the bridge, across a killed broker, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.waiting import WAIT_S


def environment_of(live_broker, name):
    pid = next(row["pid"] for row in live_broker.api("GET", "/api/spawned")["agents"] if row["name"] == name)
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


class Bridge:
    """A program with the stdio bridge; a small scripted client stands for the model."""

    def __init__(self, environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "relaybroker", "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"]} | {key: environment[key] for key in ("RELAYBROKER_URL", "RELAY_AGENT_TOKEN")},
        )  # fmt: skip
        self.number = 0

    def ask(self, method, **params):
        self.number += 1
        message = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["id"] == self.number
        return answer["result"]

    def tool(self, name, /, **arguments):
        result = self.ask("tools/call", name=name, arguments=arguments)
        assert not result["isError"], result
        return result["structuredContent"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        status = self.process.wait(WAIT_S)
        self.process.stdout.close()
        assert status == 0


def test_an_answer_given_while_the_broker_is_dead_arrives_once(live_broker):
    """ANSWERS-ONCE: the bridge waits for the broker that comes back, on the same port, and sends with the same key."""
    live_broker.spawn("w1")
    live_broker.spawn("w2")
    with Bridge(environment_of(live_broker, "w1")) as bridge:
        client = {"capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        assert bridge.ask("initialize", protocolVersion="2025-06-18", **client)["protocolVersion"] == "2025-06-18"
        asked = live_broker.deliver("w1", "are you there?")
        live_broker.expect_typed("w1", "are you there?")
        live_broker.kill()
        receipts = []
        caller = threading.Thread(target=lambda: receipts.append(bridge.tool("send_dm", to="w2", text="I am there")))
        caller.start()
        live_broker.start()
        caller.join(WAIT_S)
        assert receipts[0]["status"] in ("published", "pending")
        live_broker.expect_typed("w2", "I am there")
        assert bridge.tool("reply_to_thread", message_id=asked, text="yes")["status"] == "published"
        talk = bridge.tool("get_message_thread", message_id=asked)
        assert [row["text"] for row in talk["replies"]] == ["yes"]
    assert sum("I am there" in text for text in live_broker.typed("w2")) == 1


def test_what_an_agent_does_is_in_the_log_and_its_token_is_not(live_broker):
    """I7."""
    live_broker.spawn("w1")
    environment = environment_of(live_broker, "w1")
    with Bridge(environment) as bridge:
        bridge.tool("create_channel", name="ops")
        bridge.tool("post_message", channel="ops", text="first")
    said = live_broker.command("log", "grep", "--agent", "w1", "--json").stdout
    assert "agent.act_asked.v1" in said
    assert "create_channel" in said
    for path in live_broker.folder.rglob("*"):
        if path.is_file() and "token" not in path.name and "token" not in str(path.parent):
            assert environment["RELAY_AGENT_TOKEN"].encode() not in path.read_bytes(), path


def test_the_command_in_an_agents_terminal_acts_as_that_agent(live_broker):
    """Whatever the agent's PATH is, and whatever directory it is in."""
    live_broker.spawn("w1", cli="bash")
    live_broker.spawn("w2")
    asked = live_broker.deliver("w1", "who answers?")
    home = live_broker.folder / "elsewhere"
    home.mkdir()
    run(live_broker, f"cd {home}; export PATH=/usr/bin:/bin:${{PATH##*:}}")
    run(live_broker, f"relaybroker message reply {asked} 'the shell does' >reply.txt 2>&1")
    run(live_broker, "relaybroker message send w2 'and writes' >send.txt 2>&1")
    run(live_broker, "relaybroker message send w22 x >lost.txt 2>&1; echo $? >>lost.txt")
    run(live_broker, "relaybroker message send w2 x --from w2 >from.txt 2>&1; echo $? >>from.txt")
    run(live_broker, f"relaybroker message thread {asked} >thread.txt 2>&1")
    run(live_broker, "relaybroker message inbox --json >inbox.txt 2>&1; touch done")
    live_broker.wait((home / "done").exists, what="the shell ran everything")
    said = {path.stem: path.read_text() for path in home.glob("*.txt")}
    assert said["reply"].startswith("published as "), said
    assert said["send"].startswith("published as "), said
    assert "there is no agent 'w22'; nearest: w2" in said["lost"]
    assert said["lost"].endswith("3\n")
    assert "sends as itself only [agent_scope]" in said["from"]
    assert said["thread"].splitlines()[-1].endswith("w1: the shell does")
    assert "unread_dms" in json.loads(said["inbox"])
    live_broker.expect_typed("w2", "and writes")


def run(live_broker, line):
    live_broker.api("POST", "/api/input/w1", {"data": f"{line}\r"})


def test_the_operator_replies_to_a_message_by_its_id_alone(live_broker):
    live_broker.spawn("w1")
    asked = live_broker.command("message", "send", "w1", "first").stdout.split()[-1]
    assert live_broker.command("message", "reply", asked, "second").stdout.startswith("published as ")
    live_broker.expect_typed("w1", "second")
    of_others = live_broker.deliver("w1", "between tester and w1")
    for message in ("999", of_others):
        lost = live_broker.command("message", "reply", message, "nowhere")
        assert lost.returncode == 3
        assert "message_not_found" in lost.stderr

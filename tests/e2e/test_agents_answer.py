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
    run(live_broker, "relaybroker message ls >ls.txt 2>&1")
    run(live_broker, "relaybroker message inbox --json >inbox.txt 2>&1; touch done")
    live_broker.wait((home / "done").exists, what="the shell ran everything")
    said = {path.stem: path.read_text() for path in home.glob("*.txt")}
    assert said["reply"].startswith("published as "), said
    assert said["send"].startswith("published as "), said
    assert "there is no agent 'w22'; nearest: w2" in said["lost"]
    assert said["lost"].endswith("3\n")
    assert "sends as itself only [agent_scope]" in said["from"]
    assert said["thread"].splitlines()[-1].endswith("w1: the shell does")
    assert "w1 → " in said["ls"]
    assert "and writes" in said["ls"]
    inbox = json.loads(said["inbox"])
    assert "unread_dms" in inbox
    assert [row["text"] for row in inbox["messages"]] in (
        [],
        ["who answers?"],
    )  # shown before, or fetched while it was typed
    live_broker.expect_typed("w2", "and writes")


def run(live_broker, line):
    live_broker.api("POST", "/api/input/w1", {"data": f"{line}\r"})


def test_what_a_program_would_be_started_with_is_printed_and_does_nothing(live_broker):
    url = json.loads((live_broker.state_dir / "connection.json").read_text(encoding="utf-8"))["url"]

    def printed(cli, *words, status=0):
        return command(live_broker, "mcp-args", "--cli", cli, "--agent-name", "w1", *words, status=status)

    codex = json.loads(printed("/opt/codex -m x", "--existing-args", '["resume"]'))
    assert codex["args"][1] == f'mcp_servers.agent-relay.url="{url}/mcp"'
    assert codex["args"][-3:] == ["-m", "x", "resume"]
    assert codex["env"] == {"RELAYBROKER_URL": url, "RELAY_AGENT_NAME": "w1"}
    assert (codex["sideEffectFiles"], codex["agentToken"], codex["byHand"], codex["reason"]) == ([], None, None, "")
    assert "{env:RELAY_AGENT_TOKEN}" in json.loads(printed("opencode"))["env"]["OPENCODE_CONFIG_CONTENT"]
    cursor = json.loads(printed("cursor-agent"))
    assert (cursor["args"], cursor["byHand"]["file"]) == ([], "~/.cursor/mcp.json")
    assert "mcp.json" in cursor["reason"]
    assert "no place for options" in json.loads(printed("npx claude@2"))["reason"]
    assert "JSON list" in printed("claude", "--existing-args", "{}", status=2)
    assert "names no program" in printed(" ", status=2)


def test_an_agent_hears_what_others_do_with_its_messages_where_that_is_asked_for(live_broker):
    live_broker.spawn("w1", surface=["reaction", "receipt"])
    live_broker.spawn("w2")
    live_broker.api("PUT", "/api/spawned/w2/delivery-mode", {"mode": "manual_flush"})
    with Bridge(environment_of(live_broker, "w1")) as first, Bridge(environment_of(live_broker, "w2")) as second:
        message = first.tool("send_dm", to="w2", text="what do you think?")["message_id"]
        second.tool("add_reaction", message_id=message, emoji="👍")
        live_broker.expect_typed("w1", f"w2 reacted with 👍 to your message {message}.")
        second.tool("mark_message_read", message_id=message)
        live_broker.expect_typed("w1", f"w2 has read your message {message}.")
        answer = second.tool("send_dm", to="w1", text="good")["message_id"]
        first.tool("add_reaction", message_id=answer, emoji="🎉")
        live_broker.expect_typed("w1", "good")
    assert not any("reacted" in text for text in live_broker.typed("w2"))


def test_the_operator_talks_and_reads_along(live_broker):
    """send --wait, reply, inbox, thread, show, ls, search, wait: with marks, and an exit status that is true."""
    live_broker.spawn("w1", "--answers")
    of_others = live_broker.deliver("w1", "between tester and w1")
    assert "between tester" in command(live_broker, "message", "thread", of_others)
    assert "message_not_found" in command(live_broker, "message", "reply", of_others, "nowhere", status=3)
    asked = json.loads(command(live_broker, "message", "send", "w1", "first", "--json"))["message_id"]
    assert command(live_broker, "message", "reply", asked, "second").startswith("published as ")
    live_broker.expect_typed("w1", "second")
    lines = command(live_broker, "message", "send", "w1", "to you alone", "--wait", "acked", "--json").splitlines()
    receipt, *stages = map(json.loads, lines)
    assert [one["stage"] for one in stages if one["stage"] != "read"] == ["typed", "acked"]
    talk = command(live_broker, "message", "thread", asked).splitlines()
    assert talk[0].endswith("test: first")
    assert talk[1].strip() == "w1: acknowledged"
    assert talk[2].endswith("test: second")
    shown = command(live_broker, "message", "show", receipt["message_id"])
    assert "w1         acknowledged" in shown
    listed = command(live_broker, "message", "ls", "--agent", "w1")
    assert [text in listed for text in ("first", "second", "to you alone")] == [True] * 3
    assert asked in command(live_broker, "message", "search", "FIRST")
    live_broker.wait(lambda: "from w1" in command(live_broker, "message", "inbox"), what="an answer is in the inbox")
    command(live_broker, "message", "inbox", "--read")
    assert "from w1" not in command(live_broker, "message", "inbox")

    elsewhere = live_broker.engine("POST", "/v1/agents", {"name": "far"})
    command(live_broker, "message", "send", "far", "anybody there?", "--wait", "read", "--timeout", "0", status=11)
    sent = json.loads(command(live_broker, "message", "send", "far", "hello?", "--json"))["message_id"]
    assert "only the engine knows whether it was read" in command(live_broker, "why", sent, status=11)
    live_broker.engine("POST", f"/v1/messages/{sent}/read", {}, token=elsewhere["token"])
    assert command(live_broker, "message", "wait", sent, "--until", "read").splitlines() == ["typed", "acked", "read"]

    assert "message_not_found" in command(live_broker, "message", "reply", "999", "nowhere", status=3)
    assert "message_not_found" in command(live_broker, "message", "send", "w1", "x", "--thread", "999", status=3)
    assert "nearest: w1" in command(live_broker, "message", "send", "w1", "x", "--from", "w11", status=3)
    assert "nearest: w1" in command(live_broker, "message", "send", "w11", "x", status=3)
    assert "nearest: w1" in command(live_broker, "message", "ls", "--agent", "wx1", status=5)
    assert "Did you mean acked" in command(live_broker, "message", "ls", "--state", "aked", status=2)
    assert "body_too_large" in command(live_broker, "message", "send", "w1", "é" * 10_000, status=5)
    assert command(live_broker, "message", "search", "never said", status=3) == ""
    assert completed(live_broker, "message send w") == ["w1"]
    assert sent in completed(live_broker, f"why {sent[:4]}")


def command(live_broker, *words, status=0):
    done = live_broker.command(*words)
    assert done.returncode == status, done
    return done.stdout or done.stderr


def completed(live_broker, line):
    """What bash offers behind these words."""
    words = ["relaybroker", *line.split()]
    environment = live_broker.environment() | {
        "_RELAYBROKER_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "AGENT_RELAY_STATE_DIR": str(live_broker.state_dir),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from relaybroker.cli.app import cli; cli(prog_name='relaybroker')"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [row.partition(",")[2] for row in done.stdout.split()]

"""Two of these talk to each other with the MCP tools of their agents; a script stands for the model: talker.py RECEIVED_FILE.

The tools come from `relaybroker mcp`, as a program that only starts commands would use them. Every line that arrives is appended to
RECEIVED_FILE before anything else happens; what is thought about and said is noted in NAME.said beside it, before the tool is used.

The script: `Talk to NAME` or `Talk in #CHANNEL` makes it ask the first of QUESTIONS there; each answer makes it ask the next one, in the
thread. It answers every question in its thread. An answer that needs thought is given once the file THOUGHT exists.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

QUESTIONS = {
    "Who are you?": "I am {name}.",
    "What do you say while the broker is dead?": "That it will be back in a moment.",
    "And now?": "It is back, and this is said once.",
}
"""What is asked, in this order, and what is answered."""
NEEDS_THOUGHT = "What do you say while the broker is dead?"
THOUGHT = "think-no-longer"
_HEADER = re.compile(
    r"Relay message from \S+(?: in #\S+)? \[(?P<id>\d+)(?: thread:(?P<thread>\d+))?[^\]]*\]: (?P<body>.*)"
)
_START = re.compile(r"Talk (?:to (?P<agent>\S+)|in #(?P<channel>\S+))")


class Tools:
    """A small MCP client over stdio. Calls may be made at the same time."""

    def __init__(self) -> None:
        self._bridge = subprocess.Popen(["relaybroker", "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()
        client = {"clientInfo": {"name": "demo", "version": "1"}, "capabilities": {}}
        self._ask("initialize", protocolVersion="2025-11-25", **client)

    def use(self, tool: str, /, **arguments: str) -> dict[str, Any]:
        """Use a tool; its result. Raises RuntimeError."""
        result = self._ask("tools/call", name=tool, arguments=arguments)
        if result["isError"]:
            raise RuntimeError(f"{tool}: {result['content']}")
        structured: dict[str, Any] = result["structuredContent"]
        return structured

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        assert self._bridge.stdin is not None
        with self._lock:
            number = len(self._answers)
            answer = self._answers[number] = queue.Queue()
            request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            self._bridge.stdin.write(json.dumps(request).encode() + b"\n")
            self._bridge.stdin.flush()
        response = answer.get()
        if "error" in response:
            raise RuntimeError(f"{method}: {response['error']}")
        result: dict[str, Any] = response["result"]
        return result

    def _read(self) -> None:
        assert self._bridge.stdout is not None
        for line in self._bridge.stdout:
            response = json.loads(line)
            self._answers[response["id"]].put(response)


class Talker:
    """What the script makes of what arrives."""

    def __init__(self, tools: Tools, folder: Path, name: str) -> None:
        self._tools = tools
        self._thought = folder / THOUGHT
        self._said = (folder / f"{name}.said").open("a", encoding="utf-8", buffering=1)
        self._asked: dict[str, int] = {}
        """Thread -> how many questions were asked in it."""
        self._starting = threading.Lock()
        self._name = tools.use("my_status")["name"]

    def hear(self, message: str, thread: str, body: str) -> None:
        """React to a message."""
        if start := _START.match(body):
            question = next(iter(QUESTIONS))
            self._tools.use("leave_channel", channel="general")  # what is posted to everybody is not for the two
            place = {"to": start["agent"]} if start["agent"] else {"channel": start["channel"]}
            with self._starting:  # the answer may be here before the receipt is
                root = self._say("send_dm" if start["agent"] else "post_message", question, **place)
                self._asked[root] = 1
            self._note(began=root)
        elif body in QUESTIONS:
            self._answer(thread or message, body)
        elif (following := self._next_question(thread)) is not None:
            self._say("reply_to_thread", following, message_id=thread)

    def _next_question(self, thread: str) -> str | None:
        with self._starting:
            number = self._asked.get(thread, len(QUESTIONS))
            if number == len(QUESTIONS):
                return None
            self._asked[thread] = number + 1
        return list(QUESTIONS)[number]

    def _answer(self, thread: str, question: str) -> None:
        if question == NEEDS_THOUGHT:
            self._note(thinks_in=thread)
            waiting = threading.Event()
            while not self._thought.exists():
                waiting.wait(0.02)
        self._say("reply_to_thread", QUESTIONS[question].format(name=self._name), message_id=thread)

    def _say(self, tool: str, text: str, **place: str) -> str:
        self._note(text=text, place="".join(place.values()))
        return str(self._tools.use(tool, text=text, **place)["message_id"])

    def _note(self, **what: str) -> None:
        self._said.write(json.dumps(what) + "\n")


def main() -> None:
    """Read, note, react, until the terminal ends."""
    file = Path(sys.argv[1])
    tools = Tools()
    talker = Talker(tools, file.parent, os.environ["RELAY_AGENT_NAME"])
    with file.open("a", encoding="utf-8", buffering=1) as received:
        print("talker ready", flush=True)  # noqa: T201 - this program talks to its terminal
        for line in sys.stdin:
            received.write(line)
            if header := _HEADER.search(line):
                heard = (header["id"], header["thread"] or "", header["body"].strip())
                threading.Thread(target=talker.hear, args=heard, daemon=True).start()


if __name__ == "__main__":
    main()

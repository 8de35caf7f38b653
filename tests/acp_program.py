"""A small program that speaks the Agent Client Protocol: what a prompt's last word says, or `DO:word` in it, it does.

    python acp_program.py [VERSION] [FILE]

`VERSION` of the protocol that it takes (default 1), `FILE` in which its conversations are kept: then it loads (1) or resumes (2) them.
Every request and notification that it gets is appended to `FILE.seen`, if there is a file.
"""

import json
import os
import re
import sys
import threading
from pathlib import Path

VERSION = int(sys.argv[1]) if len(sys.argv) > 1 else 1
KEPT = Path(sys.argv[2]) if len(sys.argv) > 2 else None


class Program:
    """One connection."""

    def __init__(self):
        self.conversations = json.loads(KEPT.read_text()) if KEPT is not None and KEPT.exists() else {}
        self.answers = {}
        self.cancelled = threading.Event()
        self.lock = threading.Lock()
        self.numbers = iter(range(1000, 10**6))

    def write(self, raw):
        with self.lock:
            os.write(1, raw)

    def send(self, **message):
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def update(self, session, **update):
        self.send(method="session/update", params={"sessionId": session, "update": update})

    def say(self, session, text, kind="agent_message_chunk"):
        self.update(session, sessionUpdate=kind, content={"type": "text", "text": text})

    def keep(self, session, text):
        self.conversations.setdefault(session, []).append(text)
        if KEPT is not None:
            KEPT.write_text(json.dumps(self.conversations))

    def ask(self, session, method, **values):
        number, answered = next(self.numbers), threading.Event()
        self.answers[number] = [answered, None]
        self.send(id=number, method=method, params={"sessionId": session, **values})
        answered.wait()
        return self.answers.pop(number)[1]

    def turn(self, number, session, text):
        """The whole of one prompt."""
        told = re.search(r"DO:(\w+)", text)
        word = told[1] if told else text.split()[-1]
        if word == "unseen":
            os._exit(3)  # before it has taken the message
        self.keep(session, text)
        if VERSION == 2:
            self.send(id=number, result={"messageId": f"m{number}"})
            self.update(session, sessionUpdate="state_update", state="running")
        reason = getattr(self, f"do_{word}", self.do_reply)(session, text, number)
        if reason is None:
            return
        if VERSION == 2:
            self.update(session, sessionUpdate="state_update", state="idle")
        else:
            self.send(id=number, result={"stopReason": reason})

    def do_reply(self, session, text, _number):
        self.say(session, "you said: ")
        self.say(session, text)
        return "end_turn"

    def do_wait(self, session, _text, _number):
        self.say(session, "working", "agent_thought_chunk")
        self.cancelled.wait()
        return "cancelled"

    def do_die(self, session, _text, _number):
        self.say(session, "dying")
        os._exit(3)

    def do_ask(self, session, _text, _number):
        options = [
            {"optionId": "yes", "name": "Allow once", "kind": "allow_once"},
            {"optionId": "no", "name": "Reject", "kind": "reject_once"},
        ]
        call = {"toolCallId": "t1", "title": "touch a file", "content": []}
        answer = self.ask(session, "session/request_permission", toolCall=call, options=options)
        self.say(session, f"answer: {json.dumps(answer['result']['outcome'], sort_keys=True)}\n")
        return "cancelled" if self.cancelled.is_set() else "end_turn"

    def do_files(self, session, _text, _number):
        answer = self.ask(session, "fs/read_text_file", path="/etc/passwd")
        self.say(session, f"answer: {answer['error']['code']}\n")
        return "end_turn"

    def do_junk(self, session, _text, _number):
        self.write(b'no message at all\n[1, 2]\n\n"text"\n' + b"[" * 100_000 + b"\n")
        self.send(id=424242, result={})
        self.send(method="session/update", params=[1])
        self.send(method="session/update", params={"update": {"sessionUpdate": 7, "content": "x"}})
        self.send(method="session/unheard_of", params={})
        return "end_turn"

    def do_torn(self, session, text, _number):
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "torn ünd whole\n"}}
        message = {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}}
        for byte in json.dumps(message, ensure_ascii=False).encode() + b"\n":
            self.write(bytes([byte]))
        return "end_turn"

    def do_huge(self, session, _text, _number):
        self.say(session, "x" * (17 * 1024 * 1024))
        self.say(session, "after the huge one\n")
        return "end_turn"

    def do_refuse(self, _session, _text, number):
        self.send(id=number, error={"code": -32600, "message": "a prompt is in flight"})

    def do_fail(self, _session, _text, number):
        self.send(id=number, error={"code": -32603, "message": "Internal error", "data": {"details": "no model"}})

    def do_tools(self, session, _text, _number):
        self.update(session, sessionUpdate="tool_call", toolCallId="t1", title="ls \x1b[31m-l", status="pending")
        self.update(session, sessionUpdate="tool_call_update", toolCallId="t1", status="completed")
        self.update(session, sessionUpdate="plan", entries=[{"content": "look", "status": "pending"}])
        return "end_turn"

    def do_leave(self, _session, _text, _number):
        os.close(1)

    def request(self, message):
        number, method, values = message["id"], message["method"], message["params"]
        if method == "initialize":
            if os.environ.get("ACP_STRICT") and values["protocolVersion"] != VERSION:
                self.send(id=number, error={"code": -32602, "message": "Invalid params"})
                return
            can = {"loadSession": KEPT is not None} if VERSION == 1 else {"session": {}}
            name = "agentCapabilities" if VERSION == 1 else "capabilities"
            taken = VERSION if VERSION in (1, 2) else 7
            self.send(id=number, result={"protocolVersion": min(taken, 9), name: can})
        elif method == "session/new":
            if os.environ.get("ACP_LOGIN"):
                self.send(id=number, error={"code": -32000, "message": "Authentication required"})
                return
            session = f"s{len(self.conversations) + 1}-{os.getpid()}"
            self.conversations[session] = []
            self.send(id=number, result={"sessionId": session})
        elif method in ("session/load", "session/resume"):
            session = values["sessionId"]
            if session not in self.conversations:
                self.send(id=number, error={"code": -32602, "message": "no such session"})
                return
            for text in self.conversations[session] if method == "session/load" else ():
                self.say(session, text, "user_message_chunk")
                self.say(session, "answered before\n")
            self.send(id=number, result={})
        elif method == "session/prompt":
            self.cancelled.clear()
            text = "".join(block["text"] for block in values["prompt"])
            threading.Thread(target=self.turn, args=(number, values["sessionId"], text), daemon=True).start()
        else:
            self.send(id=number, error={"code": -32601, "message": f"no {method}"})

    def serve(self):
        for line in sys.stdin:
            message = json.loads(line)
            if KEPT is not None:
                with Path(f"{KEPT}.seen").open("a") as seen:
                    seen.write(json.dumps(message) + "\n")
            if "method" not in message:
                answered = self.answers[message["id"]]
                answered[1] = message
                answered[0].set()
            elif "id" in message:
                self.request(message)
            elif message["method"] == "session/cancel":
                self.cancelled.set()


Program().serve()

"""A model server on loopback that answers the real programs, so that they run without network and account.

    python -m tests.agents.model_server --port 8091 --log requests.jsonl

Speaks (streaming and not): Anthropic Messages, OpenAI Responses, OpenAI Chat Completions, Gemini generateContent. Keys
are not looked at. What it answers is decided by the newest user text (nothing is random, so runs can be compared):

| in the prompt | answer |
|---|---|
| `CALLTOOL name {json}` | a call of the offered tool that is called so, or whose name ends so (`send_dm` finds
`mcp__agent-relay__send_dm`) |
| `RUNSHELL command` | a call of the program's own shell tool, whatever its name and parameters are |
| `DELAY seconds` | the answer begins at once and ends so much later (the program is busy meanwhile) |
| `SAY "json string"` | that text |
| a tool's result came last | `DONE: ` and the beginning of the result |
| anything else | `ACK n: ` and the end of the text |

Requests without tools (titles, summaries, routing, safety checks) are answered at once; one that asks for JSON of a
schema gets the least value of that schema. A program whose model is called `...-plain` offers no tools at all: all its
requests count as the conversation. Each request is one line of the log:

    {"n", "t", "api", "model", "main", "ids", "tools", "texts", "results", "answer", "end", "seconds"}

`main` is true for the conversation itself; `texts` are the user texts after the last answer of the model, exactly as
the program sent them; `results` the tools' results after it; `ids` how often each relay message stands in all user
texts of the conversation, the older ones included. `end` and `seconds` come when it was answered.

`GET /_requests?since=N` returns them, `GET /_tools` the tools that were last offered with their schemas, `POST
/_control {"delay_s": 5}` sets how long each following main answer takes, `{"fail": 529}` answers with that HTTP status
until it is set to 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHELLS = (
    "bash",
    "shell",
    "exec_command",
    "run_shell_command",
    "local_shell",
    "shell_command",
    "execute_command",
    "run_commands",
)
_SHELL_COMMANDS = ("command", "cmd", "commands", "script")
_SHOWN = 60


@dataclass
class Prompt:
    """What matters of one request, whatever API it came by."""

    api: str
    model: str
    stream: bool
    texts: list[str]
    results: list[str]
    tools: dict[str, dict[str, Any]]
    """Name -> JSON schema of its arguments."""
    schema: dict[str, Any] | None = None
    """The answer must be JSON of this schema."""
    said: list[str] = field(default_factory=list)
    """All user texts of the conversation."""

    @property
    def main(self) -> bool:
        return bool(self.tools) or self.model.endswith("-plain")


@dataclass
class Answer:
    """A text or the call of a tool."""

    text: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0
    call_id: str = field(default_factory=lambda: "call_" + uuid.uuid4().hex[:20])


# --- what is answered -------------------------------------------------------------------------------------------------


def decide(prompt: Prompt, number: int, delay_s: float) -> Answer:
    """The answer to `prompt`."""
    if not prompt.main:
        return Answer(text="Mock title" if prompt.schema is None else json.dumps(least(prompt.schema)))
    text = "\n".join(prompt.texts)
    if match := re.search(r"\bDELAY (\d+(?:\.\d+)?)", text):
        delay_s = float(match[1])
    if prompt.results:
        return Answer(text=f"DONE: {prompt.results[-1][:_SHOWN]!r}", delay_s=delay_s)
    if (call := wanted_call(text)) is not None:
        name, arguments = call
        if arguments is None:
            return Answer(text=f"NO JSON after CALLTOOL {name}")
        if (tool := offered(name, prompt.tools)) is None:
            return Answer(text=f"NO SUCH TOOL {name}; offered: {' '.join(sorted(prompt.tools))}")
        return Answer(tool=tool, arguments=arguments, delay_s=delay_s)
    if match := re.search(r"\bRUNSHELL ([^\n]+)", text):
        return shell(match[1].strip(), prompt.tools, delay_s)
    if match := re.search(r"\bSAY (?=\")", text):
        return Answer(text=json.JSONDecoder(strict=False).raw_decode(text, match.end())[0], delay_s=delay_s)
    said = [one.rstrip() for one in prompt.texts if not re.fullmatch(r"\s*<([\w-]+)>.*</\1>\s*", one, re.DOTALL)]
    return Answer(text=f"ACK {number}: {(said or [''])[-1][-_SHOWN:]!r}", delay_s=delay_s)


def wanted_call(text: str) -> tuple[str, dict[str, Any] | None] | None:
    """Tool and arguments of the last `CALLTOOL name {json}` that is not itself within such a JSON."""
    call, at = None, 0
    while match := re.compile(r"\bCALLTOOL (\S+) (?=\{)").search(text, at):
        try:
            arguments, at = json.JSONDecoder(strict=False).raw_decode(text, match.end())
        except json.JSONDecodeError:
            arguments, at = None, match.end()
        call = (match[1], arguments)
    return call


def offered(name: str, tools: Iterable[str]) -> str | None:
    """The offered tool that is meant by `name`."""
    names = list(tools)
    for fits in (
        lambda one: one == name,
        lambda one: one.lower() == name.lower(),
        lambda one: re.search(rf"(?:__|::|[._\-/]){re.escape(name)}$", one) is not None,
    ):
        if fitting := next((one for one in names if fits(one)), None):
            return fitting
    return None


def shell(command: str, tools: dict[str, dict[str, Any]], delay_s: float) -> Answer:
    """A call of the CLI's own shell tool."""
    name = next((one for one in tools if one.lower() in _SHELLS), None)
    if name is None:
        return Answer(text=f"NO SHELL TOOL; offered: {' '.join(sorted(tools))}")
    properties: dict[str, Any] = tools[name].get("properties", {})
    key = next((one for one in _SHELL_COMMANDS if one in properties), "command")
    is_list = properties.get(key, {}).get("type") == "array"
    words = ["bash", "-lc", command] if name == "shell" else [command]
    arguments = {key: words if is_list else command}
    for required in tools[name].get("required", ()):
        arguments.setdefault(required, least(properties.get(required, {})))
    return Answer(tool=name, arguments=arguments, delay_s=delay_s)


def least(schema: dict[str, Any]) -> Any:
    """The least value that a JSON schema allows, about."""
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return least(schema[key][0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = (kind[0] if isinstance(kind, list) else kind).lower()
    if kind == "object":
        return {name: least(schema.get("properties", {}).get(name, {})) for name in schema.get("required", ())}
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    return {"array": [], "boolean": False, "null": None}.get(kind, "mock")


# --- reading requests -------------------------------------------------------------------------------------------------


def read_anthropic(body: dict[str, Any]) -> Prompt:
    """POST /v1/messages."""
    texts: list[str] = []
    results: list[str] = []
    for message in after_last(body.get("messages", []), "assistant"):
        for block in as_blocks(message.get("content")):
            if block.get("type") == "text":
                texts.append(block["text"])
            elif block.get("type") == "tool_result":
                results.append("".join(b.get("text", "") for b in as_blocks(block.get("content"))))
    tools = {tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools") or [] if "input_schema" in tool}
    schema = ((body.get("output_config") or {}).get("format") or body.get("output_format") or {}).get("schema")
    said = list(user_texts(body.get("messages", [])))
    return Prompt("anthropic", body.get("model", ""), bool(body.get("stream")), texts, results, tools, schema, said)


def read_chat(body: dict[str, Any]) -> Prompt:
    """POST /v1/chat/completions."""
    texts: list[str] = []
    results: list[str] = []
    for message in after_last(body.get("messages", []), "assistant"):
        blocks = ["".join(b.get("text", "") for b in as_blocks(message.get("content")))]
        if message.get("role") == "user":
            texts += [b.get("text", "") for b in as_blocks(message.get("content"))]
        elif message.get("role") in ("tool", "function"):
            results += blocks
    tools = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in body.get("tools") or []}
    form = body.get("response_format") or {}
    schema = (form.get("json_schema") or {}).get("schema", {} if form.get("type") == "json_object" else None)
    said = list(user_texts(body.get("messages", [])))
    return Prompt("chat", body.get("model", ""), bool(body.get("stream")), texts, results, tools, schema, said)


def read_responses(body: dict[str, Any]) -> Prompt:
    """POST /v1/responses."""
    items = body.get("input", [])
    if isinstance(items, str):
        items = [{"type": "message", "role": "user", "content": items}]
    texts: list[str] = []
    results: list[str] = []
    model_said = [
        at for at, item in enumerate(items) if item.get("role") == "assistant" or item.get("type", "").endswith("_call")
    ]
    for item in items[model_said[-1] + 1 if model_said else 0 :]:
        if item.get("type", "message") == "message" and item.get("role") == "user":
            texts += [block.get("text", "") for block in as_blocks(item.get("content"))]
        elif item.get("type", "").endswith("_call_output"):
            output = item.get("output", "")
            results.append(output if isinstance(output, str) else "".join(b.get("text", "") for b in as_blocks(output)))
    tools = dict(responses_tools(body.get("tools") or []))
    form = (body.get("text") or {}).get("format") or {}
    schema = form.get("schema") if form.get("type") == "json_schema" else None
    said = list(user_texts(items))
    return Prompt("responses", body.get("model", ""), bool(body.get("stream")), texts, results, tools, schema, said)


def responses_tools(tools: list[dict[str, Any]], prefix: str = "") -> Iterable[tuple[str, dict[str, Any]]]:
    """Functions, also those in namespaces (`mcp__server` + `__` + tool)."""
    for tool in tools:
        if tool.get("type") == "function":
            yield prefix + tool["name"], tool.get("parameters") or {}
        elif tool.get("type") == "namespace":
            yield from responses_tools(tool.get("tools", []), tool["name"].rstrip("_") + "::")


def read_gemini(body: dict[str, Any], model: str, *, stream: bool) -> Prompt:
    """POST /v1beta/models/MODEL:generateContent and :streamGenerateContent."""
    texts: list[str] = []
    results: list[str] = []
    for content in after_last(body.get("contents", []), "model"):
        for part in content.get("parts", []):
            if "text" in part:
                texts.append(part["text"])
            elif "functionResponse" in part:
                results.append(json.dumps(part["functionResponse"].get("response"), ensure_ascii=False))
    tools = {
        one["name"]: one.get("parametersJsonSchema") or one.get("parameters") or {}
        for group in body.get("tools") or []
        for one in group.get("functionDeclarations") or []
    }
    config = body.get("generationConfig") or {}
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema is None and config.get("responseMimeType") == "application/json":
        schema = {}
    said = list(user_texts(body.get("contents", [])))
    return Prompt("gemini", model, stream, texts, results, tools, schema, said)


def user_texts(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Every user text of a conversation, in whichever of the four forms."""
    for message in messages:
        if message.get("role") == "user":
            for block in [*as_blocks(message.get("content")), *as_blocks(message.get("parts"))]:
                if isinstance(text := block.get("text"), str):
                    yield text


_RELAY = re.compile(r"Relay message from [^\n]*?\[([\w-]+)")


def relay_ids(texts: Iterable[str]) -> dict[str, int]:
    """How often each relay message is there, by the header that the broker writes."""
    return dict(Counter(relay_id for text in texts for relay_id in _RELAY.findall(text)))


def after_last(messages: list[dict[str, Any]], role: str) -> list[dict[str, Any]]:
    """The messages after the last one of `role`."""
    places = [at for at, message in enumerate(messages) if message.get("role") == role]
    return messages[places[-1] + 1 if places else 0 :]


def as_blocks(content: Any) -> list[dict[str, Any]]:
    """Content that is a string or a list of blocks, as blocks."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block if isinstance(block, dict) else {"type": "text", "text": str(block)} for block in content or []]


# --- writing answers: (event name, data) for each server-sent event; None = the delay is here ---------------------------

Event = tuple[str, dict[str, Any] | str]


def write_anthropic(prompt: Prompt, answer: Answer) -> tuple[dict[str, Any], list[Event | None]]:
    if answer.tool:
        block: dict[str, Any] = {
            "type": "tool_use",
            "id": answer.call_id.replace("call_", "toolu_"),
            "name": answer.tool,
            "input": answer.arguments,
        }
        empty, delta = block | {"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(answer.arguments)}
    else:
        block = {"type": "text", "text": answer.text}
        empty, delta = block | {"text": ""}, {"type": "text_delta", "text": answer.text}
    stop = "tool_use" if answer.tool else "end_turn"
    usage = {"input_tokens": 100, "output_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {
        "id": "msg_" + uuid.uuid4().hex[:24],
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "content": [block],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }
    begun = message | {"content": [], "stop_reason": None}
    events: list[Event | None] = [
        ("message_start", {"type": "message_start", "message": begun}),
        ("ping", {"type": "ping"}),
        None,
        ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": empty}),
        ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        (
            "message_delta",
            {
                "type": "message_delta",
                "delta": {"stop_reason": stop, "stop_sequence": None},
                "usage": {"output_tokens": 10},
            },
        ),
        ("message_stop", {"type": "message_stop"}),
    ]
    return message, events


def write_responses(prompt: Prompt, answer: Answer) -> tuple[dict[str, Any], list[Event | None]]:
    response: dict[str, Any] = {
        "id": "resp_" + uuid.uuid4().hex[:24], "object": "response", "created_at": int(time.time()), "model": prompt.model,
        "status": "completed", "output": [], "parallel_tool_calls": False, "error": None,
        "usage": {
            "input_tokens": 100, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 110,
        },
    }  # fmt: skip
    begun = response | {"status": "in_progress", "usage": None}
    item_id = "item_" + uuid.uuid4().hex[:20]
    events: list[Event | None] = [
        ("response.created", {"type": "response.created", "response": begun}),
        ("response.in_progress", {"type": "response.in_progress", "response": begun}),
        None,
    ]
    if answer.tool:
        space, _, name = answer.tool.rpartition("::")
        item: dict[str, Any] = {
            "type": "function_call",
            "id": item_id,
            "call_id": answer.call_id,
            "name": name,
            "arguments": json.dumps(answer.arguments),
            "status": "completed",
        }
        if space:
            item["namespace"] = space
        events += [
            (
                "response.output_item.added",
                {
                    "type": "response.output_item.added",
                    "output_index": 0,
                    "item": item | {"arguments": "", "status": "in_progress"},
                },
            ),
            (
                "response.function_call_arguments.delta",
                {
                    "type": "response.function_call_arguments.delta",
                    "item_id": item_id,
                    "output_index": 0,
                    "delta": item["arguments"],
                },
            ),
            (
                "response.function_call_arguments.done",
                {
                    "type": "response.function_call_arguments.done",
                    "item_id": item_id,
                    "output_index": 0,
                    "arguments": item["arguments"],
                },
            ),
        ]
    else:
        part = {"type": "output_text", "text": answer.text, "annotations": []}
        item = {"type": "message", "id": item_id, "role": "assistant", "status": "completed", "content": [part]}
        at = {"item_id": item_id, "output_index": 0, "content_index": 0}
        events += [
            (
                "response.output_item.added",
                {
                    "type": "response.output_item.added",
                    "output_index": 0,
                    "item": item | {"content": [], "status": "in_progress"},
                },
            ),
            ("response.content_part.added", {"type": "response.content_part.added", **at, "part": part | {"text": ""}}),
            ("response.output_text.delta", {"type": "response.output_text.delta", **at, "delta": answer.text}),
            ("response.output_text.done", {"type": "response.output_text.done", **at, "text": answer.text}),
            ("response.content_part.done", {"type": "response.content_part.done", **at, "part": part}),
        ]
    done = response | {"output": [item]}
    events += [
        ("response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": item}),
        ("response.completed", {"type": "response.completed", "response": done}),
    ]
    for number, event in enumerate(one for one in events if one is not None):
        assert isinstance(event[1], dict)
        event[1]["sequence_number"] = number
    return done, events


def write_chat(prompt: Prompt, answer: Answer) -> tuple[dict[str, Any], list[Event | None]]:
    base = {"id": "chatcmpl-" + uuid.uuid4().hex[:20], "created": int(time.time()), "model": prompt.model}
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.tool:
        call = {
            "id": answer.call_id,
            "type": "function",
            "function": {"name": answer.tool, "arguments": json.dumps(answer.arguments)},
        }
        message["tool_calls"] = [call]
    finish = "tool_calls" if answer.tool else "stop"
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    whole = base | {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage,
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> Event:
        return (
            "",
            base
            | {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]},
        )

    delta = {"tool_calls": [message["tool_calls"][0] | {"index": 0}]} if answer.tool else {"content": answer.text}
    events: list[Event | None] = [
        chunk({"role": "assistant", "content": ""}),
        None,
        chunk(delta),
        chunk({}, finish),
        ("", base | {"object": "chat.completion.chunk", "choices": [], "usage": usage}),
        ("", "[DONE]"),
    ]
    return whole, events


def write_gemini(prompt: Prompt, answer: Answer) -> tuple[dict[str, Any], list[Event | None]]:
    part: dict[str, Any] = {"text": answer.text}
    if answer.tool:
        part = {"functionCall": {"name": answer.tool, "args": answer.arguments}}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}
    whole = {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": prompt.model,
        "responseId": uuid.uuid4().hex[:12],
    }
    thought = {"content": {"role": "model", "parts": [{"text": "thinking", "thought": True}]}, "index": 0}
    return whole, [("", whole | {"candidates": [thought]}), None, ("", whole)]


_WRITERS = {"anthropic": write_anthropic, "responses": write_responses, "chat": write_chat, "gemini": write_gemini}


# --- server -------------------------------------------------------------------------------------------------------------


class MockModel:
    """The server's state: what was asked, and how long answers take."""

    def __init__(self, log: Path | None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.tools: dict[str, dict[str, Any]] = {}
        self.delay_s = 0.0
        self.fail = 0
        self._log = log
        self._answered = 0

    async def answer(self, request: web.Request, prompt: Prompt) -> web.StreamResponse:
        """Log the prompt and answer it."""
        started = time.time()
        entry: dict[str, Any] = {
            "n": len(self.requests), "t": round(started, 4), "api": prompt.api, "model": prompt.model, "main": prompt.main,
            "ids": relay_ids(prompt.said),
            "tools": sorted(prompt.tools), "texts": prompt.texts, "results": prompt.results, "agent": request.headers.get("User-Agent", ""),
        }  # fmt: skip
        self.requests.append(entry)
        self.tools = prompt.tools or self.tools
        if self.fail:
            entry |= {"answer": f"HTTP {self.fail}", "seconds": 0.0}
            self._write(entry)
            return web.json_response(
                {"type": "error", "error": {"type": "mock", "message": "as told"}}, status=self.fail
            )
        self._answered += prompt.main
        answer = decide(prompt, self._answered, self.delay_s)
        entry["answer"] = f"{answer.tool} {json.dumps(answer.arguments)}" if answer.tool else answer.text
        try:
            response = await self._send(request, prompt, answer)
            entry["end"] = "whole"
        except (ConnectionError, asyncio.CancelledError):
            entry["end"] = "the client went away"
            raise
        finally:
            entry["seconds"] = round(time.time() - started, 4)
            self._write(entry)
        return response

    async def _send(self, request: web.Request, prompt: Prompt, answer: Answer) -> web.StreamResponse:
        whole, events = _WRITERS[prompt.api](prompt, answer)
        if not prompt.stream:
            await asyncio.sleep(answer.delay_s)
            return web.json_response(whole)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for event in events:
            if event is None:
                await asyncio.sleep(answer.delay_s)
                continue
            name, data = event
            text = data if isinstance(data, str) else json.dumps(data)
            await response.write(((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode())
        await response.write_eof()
        return response

    def _write(self, entry: dict[str, Any]) -> None:
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def application(model: MockModel) -> web.Application:
    """All routes. Paths count from their end, so that any base URL fits."""

    async def post(request: web.Request) -> web.StreamResponse:
        path = request.path
        body = await request.json() if request.can_read_body and request.content_type == "application/json" else {}
        if path.endswith("/count_tokens"):
            return web.json_response({"input_tokens": 100})
        if path.endswith("/messages"):
            return await model.answer(request, read_anthropic(body))
        if path.endswith("/chat/completions"):
            return await model.answer(request, read_chat(body))
        if path.endswith("/responses"):
            return await model.answer(request, read_responses(body))
        name, _, action = path.rpartition("/")[2].partition(":")
        if action == "countTokens":
            return web.json_response({"totalTokens": 100})
        if action in ("generateContent", "streamGenerateContent"):
            return await model.answer(request, read_gemini(body, name, stream=action.startswith("stream")))
        return other(request)

    def other(request: web.Request) -> web.Response:
        print(f"{request.method} {request.path_qs}: unknown", file=sys.stderr, flush=True)
        return web.json_response(
            {"type": "error", "error": {"type": "not_found_error", "message": "not here"}}, status=404
        )

    async def get(request: web.Request) -> web.Response:
        if request.path == "/_requests":
            return web.json_response(model.requests[int(request.query.get("since", 0)) :])
        if request.path == "/_tools":
            return web.json_response(model.tools)
        if request.path.endswith("/models"):
            names = ("mock-model", "claude-sonnet-4-5", "gpt-5", "gemini-2.5-pro")
            return web.json_response(
                {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "mock"} for name in names]}
            )
        if request.path == "/":
            return web.json_response({"ok": True})
        return other(request)

    async def control(request: web.Request) -> web.Response:
        given = await request.json()
        model.delay_s = float(given.get("delay_s", model.delay_s))
        model.fail = int(given.get("fail", model.fail))
        return web.json_response({"delay_s": model.delay_s, "fail": model.fail, "requests": len(model.requests)})

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/_control", control)
    app.router.add_post("/{path:.*}", post)
    app.router.add_get("/{path:.*}", get)
    return app


class Model:
    """A running server, as tests see it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._known: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """What was asked, in order."""
        with self._lock:
            first = next((at for at, one in enumerate(self._known) if "seconds" not in one), len(self._known))
            self._known[first:] = self._json(f"/_requests?since={first}")
            return self._known[since:]

    def tools(self) -> dict[str, Any]:
        """What was last offered."""
        tools: dict[str, Any] = self._json("/_tools")
        return tools

    def control(self, **settings: float) -> None:
        """`delay_s`, `fail`."""
        self._json("/_control", json.dumps(settings).encode())

    def _json(self, path: str, data: bytes | None = None) -> Any:
        request = Request(self.url + path, data, {"Content-Type": "application/json"})  # our own
        with urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def running(log: Path | None = None) -> Iterator[Model]:
    """A server in a process of its own, so that a test's load does not slow it down."""
    words = [sys.executable, "-m", "tests.agents.model_server", *(("--log", str(log)) if log else ())]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield Model(process.stdout.readline().rpartition(" ")[2].strip())
        finally:
            process.terminate()


async def _main(port: int, log: Path | None) -> None:
    runner = web.AppRunner(application(MockModel(log)), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"model server on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 = chosen by the system")
    parser.add_argument("--log", type=Path, default=None, help="one line of JSON for each request")
    given = parser.parse_args()
    asyncio.run(_main(given.port, given.log))

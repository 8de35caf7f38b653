"""The OpenAPI document of the local API, generated from the models of its bodies, queries and answers.

`GET /api/openapi.json` serves it and docs/openapi.json shows it; a test compares its routes with the server's, and another
one sends what it allows and forbids (schemathesis).

Source: spec/local-api.md section 1.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

import msgspec
from pydantic import BaseModel

from relaybroker import __version__
from relaybroker.adapters.http.api import bodies
from relaybroker.adapters.http.api.audit_routes import LogQuery
from relaybroker.audit.story import Story

Schema = dict[str, Any]

_OBJECT: Schema = {"type": "object"}
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_ERROR: Schema = {
    "type": "object",
    "description": "The one error envelope (local-api.md section 1.1). Legacy keys may stand beside these.",
    "required": ["success", "code", "message", "error", "retryable", "statusCode"],
    "properties": {
        "success": {"const": False},
        "code": {"type": "string", "description": "Stable; clients decide by it."},
        "message": _TEXT,
        "error": {"description": "The message once more; an object for 401."},
        "retryable": {"type": "boolean"},
        "statusCode": {"type": "integer"},
    },
}
_EVENT: Schema = {
    "type": "object",
    "required": ["position", "stream", "topic", "kind", "at", "causation", "correlation", "body"],
    "properties": {
        "position": {"type": "integer", "minimum": 1},
        "stream": _TEXT,
        "topic": {"type": "string", "description": "See docs/events.md."},
        "kind": {"enum": ["fact", "decision"]},
        "at": {"type": "number", "description": "Seconds since 1970."},
        "causation": _TEXT,
        "correlation": _TEXT,
        "body": _OBJECT,
    },
}


class Operation(NamedTuple):
    """One route: what it does, what it takes, what it answers besides the errors that every route has (401, 403, 413, 503)."""

    summary: str
    body: type[BaseModel] | None = None
    query: Schema = {}  # noqa: RUF012 - name -> schema, never changed
    answer: Schema = _OBJECT
    errors: tuple[int, ...] = ()


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required or properties), "properties": properties}


def _log_query() -> Schema:
    found = LogQuery.model_json_schema()["properties"]
    return {name: {key: value for key, value in schema.items() if key != "title"} for name, schema in found.items()}


_SINCE: Schema = {"sinceSeq": _COUNT, "since_seq": _COUNT, "epoch": _TEXT}
_OF_AGENT = (404, 429, 503, 504)
_MODE = _object(mode={"enum": ["auto_inject", "manual_flush"]}, held=_COUNT, revision=_COUNT)

OPERATIONS: dict[str, Operation] = {
    "GET /health": Operation(
        "Whether the broker lives; needs no key.", answer=_object("status", "version", status=_TEXT, version=_TEXT)
    ),
    "GET /api/session": Operation("Which broker this is."),
    "POST /api/session/renew": Operation("Renew the owner's lease."),
    "GET /api/config": Operation("Workspace key and memberships."),
    "POST /api/spawn": Operation("Start an agent.", bodies.SpawnBody, errors=(400, 404, 408, 409, 429, 501, 502, 504)),
    "GET /api/spawned": Operation(
        "Every agent that lives here.", answer=_object(agents={"type": "array", "items": _OBJECT})
    ),
    "DELETE /api/spawned/{name}": Operation("Release an agent.", bodies.ReleaseBody, errors=(400, 408, *_OF_AGENT)),
    "GET /api/spawned/{name}/snapshot": Operation(
        "The agent's screen.", query={"format": _TEXT}, errors=(400, *_OF_AGENT)
    ),
    "POST /api/input/{name}": Operation(
        "Write to the agent's terminal.", bodies.InputBody, errors=(400, 408, *_OF_AGENT)
    ),
    "POST /api/resize/{name}": Operation(
        "Resize the agent's terminal.", bodies.ResizeBody, errors=(400, 408, *_OF_AGENT)
    ),
    "GET /api/spawned/{name}/delivery-mode": Operation(
        "Whether messages are typed as they come or held.", answer=_MODE, errors=(404,)
    ),
    "PUT /api/spawned/{name}/delivery-mode": Operation(
        "Hold messages, or let them through.", bodies.ModeBody, answer=_MODE, errors=(400, 404, 408, 409, 429, 504)
    ),
    "GET /api/spawned/{name}/pending": Operation(
        "What is held until it is flushed.", answer=_object(pending={"type": "array", "items": _OBJECT}), errors=(404,)
    ),
    "POST /api/spawned/{name}/flush": Operation(
        "Let through what is held.",
        answer=_object(flushed=_COUNT, failed=_COUNT, remaining=_COUNT),
        errors=(400, 404, 408, 429, 504),
    ),
    "GET /api/dead-letters": Operation(
        "Messages that could not be typed.",
        query={"agent": _TEXT},
        answer=_object(dead_letters={"type": "array", "items": _OBJECT}, count=_COUNT, limit=_COUNT),
    ),
    "GET /api/dead-letters/{id}": Operation(
        "One of them, with its words.", answer=_object(dead_letter=_OBJECT), errors=(404,)
    ),
    "POST /api/dead-letters/redeliver": Operation(
        "Type them after all, each as a new attempt.",
        bodies.LettersBody,
        answer=_object(redelivered={"type": "array", "items": _OBJECT}, skipped={"type": "array", "items": _OBJECT}),
        errors=(400, 404, 408, 409, 429, 504),
    ),
    "POST /api/dead-letters/purge": Operation(
        "Take them off the list.",
        bodies.LettersBody,
        answer=_object(purged={"type": "array", "items": _TEXT}),
        errors=(400, 404, 408, 429, 504),
    ),
    "POST /api/send": Operation("Send a message.", bodies.SendBody, errors=(400, 404, 408, 409, 429, 501, 502, 504)),
    "GET /api/fleet/ws": Operation("WebSocket of a sidecar.", errors=(400,)),
    "GET /ws": Operation(
        "WebSocket of events; with `view` its client may send the size of its terminal for an agent's.",
        query=_SINCE | {"view": _TEXT},
        errors=(400, 404),
    ),
    "GET /api/events/replay": Operation(
        "Stored events from a number on.",
        query=_SINCE | {"limit": _COUNT},
        answer=_object(events={"type": "array", "items": _OBJECT}, gap={"type": "boolean"}, currentSeq=_COUNT),
        errors=(400,),
    ),
    "GET /api/status": Operation("How the broker, its link and its agents are."),
    "GET /api/metrics": Operation("Resources of agents.", query={"agent": _TEXT}, errors=(404,)),
    "GET /api/why/{id}": Operation(
        "What became of a message, delivery, AGENT@SEQ, invocation, agent or node, and why.",
        answer=_object(stories={"type": "array", "items": {"$ref": "#/components/schemas/Story"}}),
        errors=(404, 409),
    ),
    "GET /api/log": Operation(
        "Events of the log by what they are about.",
        query=_log_query(),
        answer=_object(events={"type": "array", "items": {"$ref": "#/components/schemas/Event"}}, last=_COUNT),
        errors=(400,),
    ),
    "GET /api/openapi.json": Operation("This document."),
    "GET /api/agent": Operation("Who the agent is whose token asks, and what waits for it and why.", answer=_OBJECT),
    "GET /api/agent/tools": Operation(
        "What that agent can do, as tools.", answer=_object(tools={"type": "array", "items": _OBJECT})
    ),
    "POST /api/agent/tools/{tool}": Operation(
        "Use a tool: its arguments as the body, its result as the answer.",
        errors=(400, 404, 408, 409, 413, 429, 502, 504),
    ),
    "GET /api/operator/tools": Operation(
        "What the operator can do as the broker's own identity, as tools.",
        answer=_object(tools={"type": "array", "items": _OBJECT}),
    ),
    "POST /api/operator/tools/{tool}": Operation(
        "Use a tool as the broker's own identity: its arguments as the body, its result as the answer.",
        errors=(400, 404, 408, 409, 413, 429, 502, 504),
    ),
    "POST /mcp": Operation(
        "One message of the Model Context Protocol (Streamable HTTP with JSON answers), with an agent's own token.",
        errors=(400, 404, 408),
    ),
    "POST /api/shutdown": Operation("End the broker and its agents."),
}


@functools.cache
def document() -> Schema:
    """The document, OpenAPI 3.1; made when it is first asked for."""
    schemas: Schema = {"Error": _ERROR, "Event": _EVENT}
    _, stories = msgspec.json.schema_components([Story], ref_template="#/components/schemas/{name}")
    schemas |= stories
    paths: dict[str, Schema] = {}
    for route, operation in OPERATIONS.items():
        method, path = route.split(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(route, path, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "relaybroker local API", "version": __version__, "license": {"name": "Apache-2.0"}},
        "security": [{"key": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(route: str, path: str, operation: Operation, schemas: Schema) -> Schema:
    is_open, is_socket = path == "/health", path.endswith("ws")
    errors = {*operation.errors, *(() if is_open else (401,)), 403, 413, 503}
    responses = {str(status): {"description": "Refused.", "content": _json("Error")} for status in sorted(errors)}
    responses["503"] = {"description": "Starting (text), or stopping.", "content": _json("Error") | {"text/plain": {}}}
    good = {"101": {"description": "A WebSocket."}} if is_socket else {"200": _answered(operation.answer)}
    made: Schema = {
        "operationId": re.sub(r"[^a-z]+", "_", route.lower()).strip("_"),
        "summary": operation.summary,
        "parameters": _parameters(path, operation.query),
        "responses": good | responses,
    }
    if is_open:
        made["security"] = [{}]
    if operation.body is not None:
        name = operation.body.__name__
        schema = operation.body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
        made["requestBody"] = {"required": bool(schema.get("required")), "content": _json(name)}
    return made


def _answered(schema: Schema) -> Schema:
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _json(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _parameters(path: str, query: Schema) -> list[Schema]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    return in_path + [{"name": name, "in": "query", "schema": schema} for name, schema in query.items()]

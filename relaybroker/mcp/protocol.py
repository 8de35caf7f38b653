"""The Model Context Protocol, as far as a server with tools speaks it: what a message asks for, and how an answer looks in its era.

Two eras at one endpoint, told apart by each message alone; nothing is kept between messages:

* **handshake** (2025-06-18, 2025-11-25): `initialize`, then requests. A request without the version header is taken as one of these.
* **stateless** (2026-07-28): no handshake; every request names its version in `_meta` and in the header, every result has a `resultType`.

Rules: one message per body, at most `MAX_MESSAGE_BYTES`; an id is a short text or a 64-bit number; a notification, or an answer to a
question that we never ask, is taken and not answered.

Source: modelcontextprotocol.io, revisions 2025-06-18, 2025-11-25 and 2026-07-28; spec/conversation.md section 2.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from relaybroker.domain.decoding import MAX_DEPTH, NOT_READABLE, is_too_deep

HANDSHAKE = ("2025-06-18", "2025-11-25")
STATELESS = ("2026-07-28",)
SUPPORTED = (*HANDSHAKE, *STATELESS)
MAX_MESSAGE_BYTES = 256 * 1024
"""Of one message: a text of 16 KiB fits many times, however it is escaped."""
MAX_ID = 256
"""Characters of a request's id."""
CACHE_MS = 60_000
"""How long a client may take the list of tools for granted."""

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
_SERVER_KEY = "io.modelcontextprotocol/serverInfo"
_BASE64 = re.compile(r"=\?base64\?(.*)\?=")
_STATELESS_STATUS = {METHOD_NOT_FOUND: 404, INTERNAL_ERROR: 200}
"""HTTP status of an error in the stateless era; 400 for all others."""
_HANDSHAKE_STATUS = {PARSE_ERROR: 400, INVALID_REQUEST: 400}
"""The same in the handshake era; 200 for all others."""

Id = str | int | None


class Request(NamedTuple):
    """What is asked for. `params` has no `_meta`."""

    id: Id
    method: str
    params: dict[str, Any]
    stateless: bool


class ProtocolError(Exception):
    """A message that is answered with an error of the protocol."""

    def __init__(
        self, code: int, text: str, *, data: Any = None, request_id: Id = None, stateless: bool = False
    ) -> None:
        super().__init__(text)
        self.code, self.text, self.data = code, text, data
        self.id, self.stateless = request_id, stateless


class Silent(Exception):  # noqa: N818 - not an error
    """A message that needs no answer."""


def read(message: bytes, headers: Mapping[str, str] | None) -> Request:
    """The request in a message.

    Args:
        message: one JSON-RPC message.
        headers: of the HTTP request, by lower-case name; None where there are none (stdio).

    Raises:
        ProtocolError: it is none, or of an era that is not spoken here.
        Silent: it needs no answer.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise ProtocolError(INVALID_REQUEST, f"a message has at most {MAX_MESSAGE_BYTES // 1024} KiB")
    try:
        value = msgspec.json.decode(message)
    except NOT_READABLE as error:
        raise ProtocolError(PARSE_ERROR, f"the message is not JSON: {error}"[:300]) from error
    if message.count(b"[") + message.count(b"{") > MAX_DEPTH and is_too_deep(value):
        raise ProtocolError(PARSE_ERROR, f"the message has more than {MAX_DEPTH} levels")
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise ProtocolError(INVALID_REQUEST, "one JSON-RPC 2.0 message as an object is expected")
    method = value.get("method")
    if method is None and ("result" in value or "error" in value):
        raise Silent
    if not isinstance(method, str):
        raise ProtocolError(INVALID_REQUEST, "a request needs a method", request_id=_id(value.get("id")))
    if "id" not in value:
        raise Silent
    request_id = _id(value["id"])
    if request_id is None:
        raise ProtocolError(INVALID_REQUEST, f"an id is a text of at most {MAX_ID} characters or a 64-bit number")
    return _in_era(request_id, method, value.get("params"), headers)


def _id(given: Any) -> Id:
    """The id, if it can be one."""
    if isinstance(given, str):
        return given if len(given) <= MAX_ID else None
    if isinstance(given, int) and not isinstance(given, bool):
        return given if abs(given) < 2**63 else None
    return None


def _in_era(request_id: Id, method: str, given: Any, headers: Mapping[str, str] | None) -> Request:
    params = {} if given is None else given
    meta = params.get("_meta") if isinstance(params, dict) else None
    named = (headers or {}).get("mcp-protocol-version")
    stateless = (isinstance(meta, dict) and _VERSION_KEY in meta) or named in STATELESS or method == "server/discover"

    def error(code: int, text: str, data: Any = None) -> ProtocolError:
        return ProtocolError(code, text, data=data, request_id=request_id, stateless=stateless)

    if not isinstance(params, dict):
        raise error(INVALID_PARAMS, "params must be an object")
    if stateless:
        _check_envelope(method, params, meta, headers, error)
    elif named is not None and named not in HANDSHAKE and method != "initialize":
        data = {"supported": list(SUPPORTED), "requested": named[:100]}
        raise ProtocolError(
            UNSUPPORTED_VERSION,
            "this protocol version is not supported",
            data=data,
            request_id=request_id,
            stateless=True,
        )
    return Request(request_id, method, {name: value for name, value in params.items() if name != "_meta"}, stateless)


def _check_envelope(
    method: str, params: dict[str, Any], meta: Any, headers: Mapping[str, str] | None, error: Any
) -> None:
    """What every request of the stateless era says of itself, in its body and in its headers alike."""
    if not isinstance(meta, dict):
        raise error(INVALID_PARAMS, f"params._meta must hold {_VERSION_KEY} and {_CAPABILITIES_KEY}")
    version = meta.get(_VERSION_KEY)
    if not isinstance(version, str) or not isinstance(meta.get(_CAPABILITIES_KEY), dict):
        raise error(INVALID_PARAMS, f"params._meta must hold {_VERSION_KEY} (text) and {_CAPABILITIES_KEY} (object)")
    if headers is not None:
        expected = {"mcp-protocol-version": version, "mcp-method": method}
        if method == "tools/call" and isinstance(params.get("name"), str):
            expected["mcp-name"] = params["name"]
        for name, value in expected.items():
            if _plain(headers.get(name)) != value:
                raise error(HEADER_MISMATCH, f"the header {name} does not say what the body says")
    if version not in STATELESS:
        data = {"supported": list(SUPPORTED), "requested": version[:100]}
        raise error(UNSUPPORTED_VERSION, "this protocol version is not supported", data)


def _plain(header: str | None) -> str | None:
    """A header's value; one in base64 is decoded. None for what cannot be."""
    wrapped = _BASE64.fullmatch(header or "")
    if wrapped is None:
        return header
    try:
        return base64.b64decode(wrapped[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def result(request: Request, body: dict[str, Any], server: dict[str, str], *, cached: bool = False) -> bytes:
    """The answer to a request. `cached`: the client may keep it for a while, for this agent only."""
    if request.stateless:
        kept = {"ttlMs": CACHE_MS, "cacheScope": "private"} if cached else {}
        body = body | kept | {"resultType": "complete", "_meta": {_SERVER_KEY: server}}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request.id, "result": body})


def failure(error: ProtocolError) -> tuple[int, bytes]:
    """HTTP status and body of an error."""
    said: dict[str, Any] = {"code": error.code, "message": error.text}
    if error.data is not None:
        said["data"] = error.data
    statuses, other = (_STATELESS_STATUS, 400) if error.stateless else (_HANDSHAKE_STATUS, 200)
    return statuses.get(error.code, other), msgspec.json.encode({"jsonrpc": "2.0", "id": error.id, "error": said})


def initialized(request: Request, server: dict[str, str], instructions: str) -> dict[str, Any]:
    """What `initialize` answers: the client's version if it is spoken here, else our newest.

    Raises:
        ProtocolError: it names no version.
    """
    wanted = request.params.get("protocolVersion")
    if not isinstance(wanted, str):
        raise ProtocolError(INVALID_PARAMS, "protocolVersion is missing", request_id=request.id)
    return {
        "protocolVersion": wanted if wanted in HANDSHAKE else HANDSHAKE[-1],
        "capabilities": {"tools": {}},
        "serverInfo": server,
        "instructions": instructions,
    }


def discovered(server: dict[str, str], instructions: str) -> dict[str, Any]:
    """What `server/discover` answers."""
    return {
        "supportedVersions": list(SUPPORTED),
        "capabilities": {"tools": {}},
        "serverInfo": server,
        "instructions": instructions,
    }

"""Which workspace this node belongs to: the one whose key was given, or one that the broker makes for itself and keeps.

The answer is kept in `<state>/workspace.json`, so that a restart needs no engine to know who the node is. The key is kept
there only if the broker made the workspace; of a given key there is a fingerprint.

Source: spec/local-api.md sections 0.3, 4.1 and 4.5; spec/engine-contract.md section 2.1; F129, F130, F135.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec

from relaybroker.adapters.file_lock import exclusive_lock
from relaybroker.adapters.private_files import read_private, write_private
from relaybroker.adapters.vault import fingerprint
from relaybroker.domain.decoding import NOT_READABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from relaybroker.config.settings import Settings

_log = logging.getLogger(__name__)

RESOLVE_S = 8.0
"""An engine that cannot be reached for this long ends a first start (a later one goes on with what it knows)."""
UNKNOWN = "ws_unknown"
"""The workspace id of a node that has only its operator's node token: nothing may be asked with that."""
_RETRY_S = 0.25


class WorkspaceError(Exception):
    """No workspace: the engine refused, cannot be reached, or answers nonsense. The text has no key in it."""


class Workspace(NamedTuple):
    """The workspace of this run. `key` is a secret; "" when there is none."""

    workspace_id: str
    key: str

    def __repr__(self) -> str:
        return f"Workspace({self.workspace_id!r})"


class _Kept(msgspec.Struct):
    workspace_id: str
    base_url: str
    embedded: bool = False
    key_fingerprint: str = ""
    api_key: str = ""
    """Only of a workspace that the broker made itself."""


async def resolve(settings: Settings, base_url: str, path: Path, *, user: str) -> Workspace:
    """The workspace of this run, kept in `path` for the next one.

    Args:
        settings: has the given key, if any.
        base_url: of the engine, resolved.
        path: `<state>/workspace.json`.
        user: login name, for the name of a new workspace.

    Raises:
        WorkspaceError: there is none; an explicit key that is refused is never replaced by another workspace.
    """
    async with _alone(path):
        return await _resolve(settings, base_url, path, user)


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Two brokers that start in one directory at the same moment make one workspace."""
    lock = exclusive_lock(path.with_name(f"{path.name}.lock"))
    await asyncio.to_thread(lock.__enter__)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


async def _resolve(settings: Settings, base_url: str, path: Path, user: str) -> Workspace:
    given = settings.workspace_key.get_secret_value()
    embedded = settings.engine_url is None
    kept = _recall(path, base_url, embedded=embedded)
    if given:
        if kept is not None and kept.key_fingerprint == fingerprint(given):
            return Workspace(kept.workspace_id, given)
        workspace_id = await _ask_id(base_url, given, explicit=settings.workspace_key_is_explicit)
        if workspace_id:
            _keep(path, _Kept(workspace_id, base_url, embedded, key_fingerprint=fingerprint(given)))
            return Workspace(workspace_id, given)
        _log.warning("the engine refused RELAY_API_KEY; the broker uses its own workspace")
    elif settings.node_token.get_secret_value():
        return Workspace(UNKNOWN, "")
    if kept is not None and kept.api_key:
        return Workspace(kept.workspace_id, kept.api_key)
    digest = hashlib.sha256(f"{user}:{settings.cwd}".encode(errors="surrogateescape")).hexdigest()
    made = await _create(base_url, f"relay-{digest[:8]}") or await _create(base_url, f"relay-{secrets.token_hex(4)}")
    if made is None:
        raise WorkspaceError(f"the engine {base_url} already has a workspace for every name that was tried")
    _keep(path, _Kept(made.workspace_id, base_url, embedded, fingerprint(made.key), api_key=made.key))
    return made


def _recall(path: Path, base_url: str, *, embedded: bool) -> _Kept | None:
    """What is kept, if it is of this engine. The embedded engine is the same one on whatever port it listens."""
    try:
        kept = msgspec.json.decode(read_private(path), type=_Kept)
    except FileNotFoundError:
        return None
    except NOT_READABLE as error:
        raise WorkspaceError(f"{path} cannot be read: {error}. Move it away to join a new workspace.") from error
    if kept.embedded and embedded:
        return kept
    return kept if kept.base_url == base_url and kept.embedded == embedded else None


def _keep(path: Path, kept: _Kept) -> None:
    write_private(path, msgspec.json.encode(kept) + b"\n")


async def _ask_id(base_url: str, key: str, *, explicit: bool) -> str:
    """The id of the key's workspace; "" if a key that is not explicit is refused."""
    status, answer = await _request("GET", f"{base_url}/v1/workspace", key, None)
    if status in (401, 403, 404):
        if explicit:
            raise WorkspaceError(f"the engine {base_url} refused the workspace key ({status} {_code(answer)})")
        return ""
    workspace_id = _data(answer).get("id")
    if status != 200 or not isinstance(workspace_id, str) or not workspace_id:
        raise WorkspaceError(f"the engine {base_url} did not say which workspace the key belongs to: {status}")
    return workspace_id


async def _create(base_url: str, name: str) -> Workspace | None:
    """A new workspace; None if the name is taken. A request without a clear answer is not repeated (F130)."""
    status, answer = await _request("POST", f"{base_url}/v1/workspaces", "", {"name": name})
    if status == 409:
        return None
    data = _data(answer)
    workspace_id, key = data.get("workspace_id"), data.get("api_key")
    if status not in (200, 201) or not isinstance(workspace_id, str) or not isinstance(key, str):
        raise WorkspaceError(f"the engine {base_url} created no workspace: {status} {_code(answer)}")
    return Workspace(workspace_id, key.strip())


async def _request(method: str, url: str, key: str, body: dict[str, str] | None) -> tuple[int, Any]:
    """Status and JSON of the answer. Only what never reached the engine is tried again, until the time is over."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with asyncio.timeout(RESOLVE_S), aiohttp.ClientSession(headers=headers) as session:
            while True:
                try:
                    async with session.request(method, url, json=body, allow_redirects=False) as response:
                        return response.status, msgspec.json.decode(await response.read() or b"null")
                except aiohttp.ClientConnectorError as error:
                    _log.info("engine not reached: %s", error)
                    await asyncio.sleep(_RETRY_S)
    except TimeoutError as error:
        raise WorkspaceError(f"the engine {url} did not answer within {RESOLVE_S:g} s") from error
    except (aiohttp.ClientError, *NOT_READABLE) as error:
        raise WorkspaceError(f"the engine {url} gave no usable answer: {error}") from error


def _data(answer: Any) -> dict[str, Any]:
    data = answer.get("data") if isinstance(answer, dict) else None
    return data if isinstance(data, dict) else {}


def _code(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("code", "")) if isinstance(error, dict) else ""

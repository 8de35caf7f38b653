"""Tokens of a node on disk: accepted only for the very node, workspace and engine that they were made for.

Source: spec/node-protocol.md sections 1.6 and 1.7; invariants I4 and I5.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import msgspec

from relaybroker.adapters.private_files import make_private_directory, read_private, remove_private, write_private
from relaybroker.domain.decoding import NOT_READABLE

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class CachedToken(msgspec.Struct, frozen=True):
    """A token with what it is good for. Its repr shows no token."""

    node_id: str
    workspace_id: str
    base_url: str
    token: str
    agent_id: str = ""
    """Whose token it is, in the cache of the broker's own agent; "" for a node token."""

    def __repr__(self) -> str:
        return f"CachedToken(node_id={self.node_id!r}, workspace_id={self.workspace_id!r}, base_url={self.base_url!r})"


class TokenCache:
    """The cached token of one node in one workspace of one engine.

    Args:
        directory: where the files of all nodes are (`<data_local>/agent-relay/node-tokens`).
        node_id: the running node.
        workspace_id: the running workspace.
        base_url: the resolved base URL of the engine.
    """

    def __init__(self, directory: Path, *, node_id: str, workspace_id: str, base_url: str) -> None:
        self._directory = directory
        self._path = directory / f"{_UNSAFE.sub('_', node_id) or 'node'}.json"
        self._expected = {"node_id": node_id, "workspace_id": workspace_id, "base_url": base_url}

    def load(self) -> CachedToken | None:
        """The token, trimmed, if the file is for exactly this node, workspace and engine; else None, and why is logged."""
        try:
            return self._checked()
        except FileNotFoundError:
            return None
        except (_NotAcceptedError, OSError) as error:
            _log.info("token cache %s is not used: %s", self._path, error)
            return None

    def store(self, token: str, *, agent_id: str = "") -> bool:
        """Replace the file. False, and logged, if it could not be written: the token is then good for this run only."""
        entry = {**self._expected, "token": token} | ({"agent_id": agent_id} if agent_id else {})
        try:
            make_private_directory(self._directory)
            write_private(self._path, msgspec.json.encode(entry) + b"\n")
        except OSError as error:
            _log.warning("token cache %s not written, the token is used from memory: %s", self._path, error)
            return False
        return True

    def remove(self) -> None:
        """Forget the token on disk."""
        remove_private(self._path)

    def _checked(self) -> CachedToken:
        if self._directory.exists():
            make_private_directory(self._directory)
        try:
            cached = msgspec.json.decode(read_private(self._path), type=dict[str, str])
        except NOT_READABLE as error:
            raise _NotAcceptedError("it is not a JSON object of texts") from error
        for key, value in self._expected.items():
            if cached.get(key) != value:
                raise _NotAcceptedError(f"its {key} is {'another one' if key in cached else 'missing'}")
        token = cached.get("token", "").strip()
        if not token:
            raise _NotAcceptedError("it holds no token")
        return CachedToken(**self._expected, token=token, agent_id=cached.get("agent_id", ""))


class _NotAcceptedError(Exception):
    """Why a cached token is not used. Never holds the token."""

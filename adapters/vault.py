"""The vault: the only place of the broker where tokens are. Everything else has references and fingerprints.

References: `workspace` (the workspace key), `node` (the node token), `own` (the broker's own agent) and
`agent:<agent_id>`.

Agents' tokens are files of their own in the run directory, outside the project tree, so that they survive a killed
broker like the agents themselves do. A pinned node token is never written anywhere.

Source: spec/node-protocol.md sections 1.5 to 1.7; spec/local-api.md sections 4.6 and 11.1; invariants I3, I7; F064.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
from typing import TYPE_CHECKING

from relaybroker.adapters.private_files import make_private_directory, read_private, remove_private, write_private

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from relaybroker.adapters.token_cache import TokenCache

_log = logging.getLogger(__name__)

WORKSPACE = "workspace"
NODE = "node"
OWN = "own"
_AGENT = "agent:"
MAX_SUPPLIED = 64
"""Tokens that callers brought along and that are not adopted yet; the oldest goes."""
MAX_WITHHELD = 1024
"""Secrets in the inputs of actions that are kept for their handlers; the oldest goes."""
WITHHELD = "withheld:"
"""How the reference begins that stands for such a secret."""
_SUFFIX = ".token"
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def agent_reference(agent_id: str) -> str:
    """The vault reference of an agent's token."""
    return f"{_AGENT}{agent_id}"


def is_agent_id(text: str) -> bool:
    """Whether the vault can keep a token under this agent id (it becomes a file name)."""
    return _SAFE_ID.fullmatch(text) is not None


def fingerprint(token: str) -> str:
    """What may be shown and recorded of a token: `sha256:` and twelve hex digits, good only for comparing."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()[:12]}"


class Vault:
    """Tokens by reference. Thread-safe; `keep` and `forget` write files and may be called from a thread.

    Args:
        workspace_key: the key of the workspace, "" if there is none (a node token alone).
        agents_directory: `<run>/tokens`, made with mode 0700 when the first token comes.
        node_cache: where the node token lives on disk.
        own_cache: where the token of the broker's own agent lives on disk.
        pinned_node_token: the operator's node token; with it nothing about the node is read, written or replaced.
    """

    def __init__(
        self,
        *,
        workspace_key: str,
        agents_directory: Path,
        node_cache: TokenCache,
        own_cache: TokenCache,
        pinned_node_token: str = "",
    ) -> None:
        self._lock = threading.Lock()
        self._agents_directory = agents_directory
        self._node_cache = node_cache
        self._own_cache = own_cache
        self._pinned = bool(pinned_node_token)
        self._tokens: dict[str, str] = {}
        self._blind = secrets.token_bytes(32)
        """Key of the digests by which agents are found: the time that a look-up takes tells nothing about a token."""
        self._holders: dict[bytes, str] = {}
        """Digest of an agent's token -> its reference."""
        self._supplied: dict[str, str] = {}
        self._withheld: dict[str, str] = {}
        self.own_agent_id = ""
        if workspace_key:
            self._tokens[WORKSPACE] = workspace_key
        if pinned_node_token:
            self._tokens[NODE] = pinned_node_token
        elif cached := node_cache.load():
            self._tokens[NODE] = cached.token
        if (own := own_cache.load()) and own.agent_id:
            self._tokens[OWN] = own.token
            self.own_agent_id = own.agent_id
        if agents_directory.exists():
            make_private_directory(agents_directory)
            for path in agents_directory.glob(f"*{_SUFFIX}"):
                self._load_agent(path)

    def _load_agent(self, path: Path) -> None:
        try:
            token = read_private(path).decode().strip()
        except UnicodeDecodeError:
            _log.warning("%s is no token; it is left as it is and not used", path)
            return
        if token:
            self._put(agent_reference(path.name.removesuffix(_SUFFIX)), token)

    def __repr__(self) -> str:
        return f"Vault({sorted(self._tokens)})"

    def has(self, reference: str) -> bool:
        """Whether there is a token for this reference."""
        return self.token(reference) is not None

    def token(self, reference: str) -> str | None:
        """The token; None when there is none. The broker's own agent is found by its agent id too."""
        with self._lock:
            if self.own_agent_id and reference == agent_reference(self.own_agent_id):
                return self._tokens.get(OWN)
            return self._tokens.get(reference)

    def keep(self, reference: str, token: str, *, agent_id: str = "") -> None:
        """Make `token` the one of this reference, durably. Returns when it is on disk.

        Args:
            reference: `node`, `own` or `agent:<agent_id>`.
            token: the secret, trimmed.
            agent_id: for `own`, whose token it is.

        Raises:
            ValueError: an unknown reference, an agent id that is no file name, or a node token in pinned mode.
            OSError: an agent's token could not be written.
        """
        with self._lock:
            if reference == NODE:
                if self._pinned:
                    raise ValueError("the operator's node token is never replaced")
                self._node_cache.store(token)
            elif reference == OWN:
                self._own_cache.store(token, agent_id=agent_id)
                self.own_agent_id = agent_id
            else:
                path = self._path(reference)
                make_private_directory(self._agents_directory)
                write_private(path, token.encode() + b"\n")
            self._put(reference, token)

    def keep_supplied(self, token: str) -> str:
        """Take a token that a caller brought along for an agent, in memory only; its fingerprint, under which `adopt` finds it."""
        shown = fingerprint(token)
        with self._lock:
            while len(self._supplied) >= MAX_SUPPLIED:
                del self._supplied[next(iter(self._supplied))]
            self._supplied[shown] = token
        return shown

    def adopt(self, shown: str, agent_id: str) -> None:
        """The token that was brought along is this agent's; nothing happens if there is none.

        Raises:
            ValueError: an agent id that is no file name.
            OSError: the token could not be written.
        """
        with self._lock:
            token = self._supplied.pop(shown, None)
        if token is not None:
            self.keep(agent_reference(agent_id), token)

    def withhold(self, secret: str) -> str:
        """Keep a secret of an action's input for its handler, in memory only; what stands for it everywhere else.

        The reference of a secret is good for this process alone: nobody can guess a short secret from it.
        """
        shown = WITHHELD + hmac.digest(self._blind, secret.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]
        with self._lock:
            self._withheld.pop(shown, None)
            while len(self._withheld) >= MAX_WITHHELD:
                del self._withheld[next(iter(self._withheld))]
            self._withheld[shown] = secret
        return shown

    def withheld(self, shown: str) -> str:
        """The secret behind a reference; any other text is its own.

        Raises:
            LookupError: the secret is no longer kept: this process has started since, or too many came after it.
        """
        if not shown.startswith(WITHHELD):
            return shown
        with self._lock:
            return self._withheld[shown]

    def forget(self, reference: str, token: str | None = None) -> None:
        """Drop an agent's token from memory and disk; with `token`, only if it is still that one."""
        with self._lock:
            if token is None or self._tokens.get(reference) == token:
                self._drop(reference)
                remove_private(self._path(reference))

    def forget_agents_except(self, agent_ids: Collection[str]) -> None:
        """Drop the tokens of every agent that is not named."""
        kept = {agent_reference(agent_id) for agent_id in agent_ids}
        with self._lock:
            gone = [reference for reference in self._tokens if reference.startswith(_AGENT) and reference not in kept]
        for reference in gone:
            self.forget(reference)

    def agent_of(self, token: str) -> str:
        """The agent id whose newest token this is, "" if it is nobody's. Takes as long for every token of a length, right or wrong."""
        with self._lock:
            reference = self._holders.get(self._digest(token), "")
            held = self._tokens.get(reference, "")
        is_it = hmac.compare_digest(self._digest(held), self._digest(token))
        return reference.removeprefix(_AGENT) if is_it and token else ""

    def _digest(self, token: str) -> bytes:
        return hmac.digest(self._blind, token.encode("utf-8", "surrogateescape"), "sha256")

    def _put(self, reference: str, token: str) -> None:
        self._drop(reference)
        self._tokens[reference] = token
        if reference.startswith(_AGENT):
            self._holders[self._digest(token)] = reference

    def _drop(self, reference: str) -> None:
        former = self._tokens.pop(reference, None)
        if former is not None and self._holders.get(self._digest(former)) == reference:
            del self._holders[self._digest(former)]

    def _path(self, reference: str) -> Path:
        agent_id = reference.removeprefix(_AGENT)
        if not reference.startswith(_AGENT) or not is_agent_id(agent_id):
            raise ValueError(f"not the reference of an agent's token: {reference!r}")
        return self._agents_directory / f"{agent_id}{_SUFFIX}"

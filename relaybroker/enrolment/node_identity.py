"""Which node this broker is in this run, and that its state belongs to exactly that node, workspace and engine.

Source: spec/node-protocol.md sections 1.1 to 1.5 and 1.7; F042, F135.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters import machine_seed
from relaybroker.adapters.file_lock import FileLock, LockHeldError
from relaybroker.adapters.private_files import make_private_directory
from relaybroker.domain import identity

if TYPE_CHECKING:
    from relaybroker.config.paths import Paths
    from relaybroker.config.settings import Settings
    from relaybroker.domain.state import State

WRONG_DESTINATION = "wrong_destination"


class NodeError(Exception):
    """This process cannot be this node; the text says why and what to do."""


class Node(NamedTuple):
    """The node of this run."""

    node_id: str
    name: str
    workspace_id: str
    base_url: str


def node_of(settings: Settings, paths: Paths, *, workspace_id: str, base_url: str) -> Node:
    """The node of these settings in this directory and workspace.

    Raises:
        MachineSeedError: the machine-id file cannot be read or made.
        NodeError: the current directory cannot be resolved, or a part of the id holds U+0000.
    """
    node_id = settings.node_id
    if not node_id:
        seed = machine_seed.load_or_create(paths.data)
        pinned = bool(settings.node_token.get_secret_value())
        node_id = seed if pinned else _derived(seed, workspace_id)
    name = identity.choose_node_name(chosen=settings.node_names, hostname=socket.gethostname(), node_id=node_id)
    return Node(node_id, name, workspace_id, base_url)


def check_destination(node: Node, state: State, *, embedded: bool) -> None:
    """Refuse a state that was written for another workspace, engine or node. An empty one fits every node.

    Args:
        node: of this run.
        state: recovered from the journal.
        embedded: the engine is the embedded one, whose port may have changed.

    Raises:
        NodeError: `wrong_destination`; nothing of the state was sent.
    """
    former = state.settings
    if former is None:
        return
    wrong = [
        f"{what} {then}, not {now}"
        for what, then, now in (
            ("workspace", former.workspace_id, node.workspace_id),
            ("engine", former.base_url, former.base_url if embedded else node.base_url),
            ("node", former.node_id, node.node_id),
        )
        if then != now
    ]
    if wrong:
        raise NodeError(
            f"{WRONG_DESTINATION}: this state directory is for {'; '.join(wrong)}. "
            "Use the former workspace and engine, or another --state-dir."
        )


def hold_node(node: Node, paths: Paths) -> FileLock:
    """The lock that keeps a second process from being the same node at the same time.

    Raises:
        NodeError: another process is this node.
        OSError: the lock cannot be made.
    """
    directory = paths.data / "node-locks"
    make_private_directory(directory)
    try:
        return FileLock(directory / f"{re.sub(r'[^A-Za-z0-9_-]', '_', node.node_id)}.lock")
    except LockHeldError as error:
        raise NodeError(f"node {node.node_id} is already run by another process (pid {error.pid})") from error


def _derived(seed: str, workspace_id: str) -> str:
    try:
        return identity.derive_node_id(seed, _canonical_directory(), workspace_id)
    except ValueError as error:
        raise NodeError(f"this node cannot get an id: {error}") from error


def _canonical_directory() -> bytes:
    try:
        return os.fsencode(Path.cwd().resolve(strict=True))
    except OSError as error:
        raise NodeError(f"the current directory cannot be resolved: {error}") from error

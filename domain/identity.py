"""Who this node is: its id and its name, as pure functions of what the machine, the directory and the workspace are.

Source: spec/node-protocol.md sections 1.2 to 1.4; invariant I1; F042, F043.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FALLBACK_NODE_NAME = "relay-node"
DISTINCT_CHARACTERS = 8
"""How much of the node id makes a name distinct."""
_PREFIX = "node_"
_ID_HEX_DIGITS = 32
_SEPARATOR = b"\0"


def derive_node_id(machine_seed: str, cwd: bytes, workspace_id: str) -> str:
    """The node id of one machine, directory and workspace: pure, and different for every split of the same text.

    Args:
        machine_seed: content of the machine-id file, trimmed.
        cwd: canonical path of the working directory as raw bytes (it need not be UTF-8).
        workspace_id: the workspace that the node belongs to.

    Raises:
        ValueError: a part contains U+0000, which separates the parts.
    """
    return _node_id(_part("machine seed", machine_seed), _path(cwd), _part("workspace id", workspace_id))


def distinct_node_name(name: str, node_id: str) -> str:
    """The name with the first characters of the node id behind it: two brokers never share it by accident."""
    return f"{name}-{node_id.removeprefix(_PREFIX)[:DISTINCT_CHARACTERS]}"


def choose_node_name(*, chosen: Iterable[str], hostname: str, node_id: str) -> str:
    """The node's name: the first non-blank name that the operator chose, as it is; else the host's name made distinct.

    Args:
        chosen: what the operator gave, in order of precedence; blanks are skipped.
        hostname: the name of the machine, "" when it is unknown.
        node_id: the id that makes a name distinct that nobody chose.
    """
    for name in chosen:
        if trimmed := name.strip():
            return trimmed
    return distinct_node_name(hostname.strip() or FALLBACK_NODE_NAME, node_id)


def _node_id(*parts: bytes) -> str:
    return _PREFIX + hashlib.sha256(_SEPARATOR.join(parts)).hexdigest()[:_ID_HEX_DIGITS]


def _part(what: str, text: str) -> bytes:
    if "\0" in text:
        raise ValueError(f"{what} contains U+0000, which separates the parts of a node id")
    return text.encode()


def _path(cwd: bytes) -> bytes:
    if _SEPARATOR in cwd:
        raise ValueError("working directory contains U+0000, which separates the parts of a node id")
    return cwd

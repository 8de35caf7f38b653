"""What happened in a workspace, told to everybody who asked for it: observers now, subscriptions by a stored queue.

Source: spec/engine-contract.md sections 2.13, 10.
"""

from __future__ import annotations

from typing import Any

from relaybroker.engine import subscriptions
from relaybroker.engine.context import Engine
from relaybroker.engine.store import Tx


def publish(tx: Tx, engine: Engine, workspace_id: str, event: dict[str, Any], *, is_private: bool = False) -> None:
    """Tell the observers after the commit, and the subscriptions with it. What is private is said in a conversation."""
    tx.after(lambda: engine.hub.publish(workspace_id, event, is_private=is_private))
    if subscriptions.enqueue(tx, workspace_id, event):
        tx.after(engine.posts_wait.set)

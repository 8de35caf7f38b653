"""For every test that runs our code on an event loop as the broker does: nothing of ours may block the loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from blockbuster import blockbuster_ctx

GUARDED = (
    "unit/api",
    "unit/websocket",
    "unit/pty",
    "integration/websocket",
    "integration/bootstrap",
    "contract/engine",
)
"""Elsewhere tests themselves open journals and files inside their coroutines, as start-up code does in threads."""


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call of our code on a running event loop fails the test (files, sockets, sleeps, locks)."""
    guarded = any(f"/tests/{place}/" in str(request.path) for place in GUARDED)
    with blockbuster_ctx(scanned_modules=["domain", "adapters", "relaybroker"]) if guarded else nullcontext():
        yield

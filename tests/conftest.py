"""For every test: the profiles of Hypothesis; and for those that run our code on a loop as the broker does, nothing may block it.

`HYPOTHESIS_PROFILE` chooses: few examples for a developer, more in `make test`, many at night. No profile has a deadline or minds a slow
machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

for profile, examples, steps in (("dev", 60, 40), ("ci", 120, 50), ("nightly", 5000, 80)):
    settings.register_profile(
        profile,
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

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
    with blockbuster_ctx(scanned_modules=["relaybroker"]) if guarded else nullcontext():
        yield

"""SOAK=500 messages into each program, with random dialogs, resizes, stops and drafts; SEED= repeats a run."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.agents.bench import PATIENCE, Bench
from tests.agents.soak import soak

COUNT = int(os.environ.get("SOAK", "40"))


@pytest.mark.timeout(COUNT * 12 * PATIENCE + 600)
@pytest.mark.holds(f"{COUNT} messages with dialogs, resizes, stops and drafts between: acked ones there once")
def test_a_day_of_a_program(started: Callable[..., Bench]) -> None:
    soak(started, COUNT, int(os.environ.get("SEED") or random.randrange(1_000_000)))

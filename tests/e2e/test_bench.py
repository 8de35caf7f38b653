"""`make bench` measures this broker as it stands: every measurement runs, and what it counts is right. No figure is judged here."""

from __future__ import annotations

import pytest

from bench import brokers, table, targets
from bench.__main__ import compare
from bench.measures import Plan


@pytest.mark.slow
def test_every_measurement_of_this_broker_gives_its_figures():
    plan = Plan(messages=2, limit_s=300, stall_s=120, events=3_000, rest_s=0.0, burst=0.1)
    figures_by_broker = compare([brokers.OURS], plan)
    figures = figures_by_broker[brokers.OURS]
    assert [
        key for key in (key for target in targets.TARGETS for key in target.figures) if figures.get(key) is None
    ] == []
    assert [state for key, state in figures.items() if key.endswith("_state") and state] == []
    assert (figures["crash_lost"], figures["crash_twice"]) == (0, 0)
    assert figures["crash_agents_alive"] == figures["crash_agents"] == 10
    assert figures["acked_before_typed"] == 0
    assert figures["crash_in_flight"] >= 200
    for label, keys in table.ROWS:
        assert "-" not in table.cell(figures, keys).split(" / "), label

"""A figure that misses its target, or could not be had, is said to miss it."""

from __future__ import annotations

import pytest

from bench import table
from bench.targets import TARGETS, judge

MET = {key: target.bound for target in TARGETS for key in target.figures}


def missed(figures):
    return [one.what for one in judge(figures) if not one.met]


def test_figures_at_their_bounds_meet_every_target():
    assert missed(MET) == []


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.what)
def test_each_figure_can_miss_its_target(target):
    for key in target.figures:
        worse = target.bound - 0.01 if target.at_least else target.bound + 0.01
        assert missed(MET | {key: worse}) == [target.what]
        assert missed({name: value for name, value in MET.items() if name != key}) == [target.what]
    text = table.verdicts(judge(MET | {target.figures[0]: None}))
    assert next(line for line in text.splitlines() if "MISSED" in line).startswith(target.what)

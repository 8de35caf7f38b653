"""Seeds of the simulation: no promise is broken, the rare branches are reached, a failing one says how to see it again.

The real core in a simulated world (relaybroker/testing/simulation); `make simulate SEEDS=...` runs more, `make day` a whole day. Checked at
each step: D1 D2 D3 D4 D5 D6 D7 D8 D12 D13 D14 LOG-FIRST TYPED-ONCE; after healing: D9 R1 X1. The table is in its checks.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from relaybroker.testing.simulation.__main__ import failure, main, missed, seeds_of
from relaybroker.testing.simulation.run import Outcome, run

RARE = (512, 171, 164, 93, 83, 70, 65, 35)
"""Seeds that reached every rare branch between them when they were chosen. They only save time: others are tried after them."""
AT_LEAST, AT_MOST = 40, 300
"""Seeds: so many in any case, then as many as it takes to reach every rare branch. `make simulate` and the nights run more."""


@pytest.mark.slow
def test_seeds_break_no_promise_and_reach_every_rare_branch():
    """ADR-0020; D1-D15; S20."""
    outcomes = []
    for seed in dict.fromkeys((*RARE, *range(AT_MOST))):
        outcomes.append(run(seed))
        if len(outcomes) >= AT_LEAST and not missed(outcomes):
            break
    assert [failure(outcome) for outcome in outcomes if outcome.violation] == []
    assert missed(outcomes) == []


FOUND = (3177, 5711, 30188, 60086)


@pytest.mark.parametrize("seed", FOUND)
def test_what_a_seed_once_found_stays_mended(seed):
    outcome = run(seed)
    assert outcome.violation == "", failure(outcome)


def test_a_seed_decides_everything_also_in_another_process():
    """The order of sets and hashes decides nothing."""
    program = "from relaybroker.testing.simulation.run import run; print(run(7).chain)"
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    ]
    assert said == [run(7).chain] * 2


def test_a_failure_names_the_command_that_shows_it_again():
    outcome = Outcome(seed=7, violation="ORDER: x", marks=Counter(), events=1, typed=0, simulated_s=1.0, chain="")
    assert "make simulate SEEDS=7," in failure(outcome)
    assert "make day SEEDS=7," in failure(outcome, day=True)
    assert seeds_of("7,") == [7]


def test_the_command_says_what_was_reached(capsys):
    assert main(["1,2", "--jobs", "1"]) == 0
    assert "2 seeds" in capsys.readouterr().out


def test_seeds_are_a_number_a_list_or_a_range():
    assert seeds_of("3") == [0, 1, 2]
    assert seeds_of("5,9") == [5, 9]
    assert seeds_of("100-102") == [100, 101, 102]

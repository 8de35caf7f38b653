"""Small worlds of which every schedule is tried: no promise is broken; a broken rule is found, with a short schedule (ADR-0097)."""

from __future__ import annotations

import pytest

from relaybroker.testing.sessions import replay_session
from tests.simulation import test_mutations as broken
from tests.simulation.exploration import LONG, SEPARATOR, Search, furthest, play, write_session
from tests.simulation.small_worlds import SCENARIOS, Explored


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "depth"), [("order", 4), ("kills", 3), ("door", 3)])
def test_no_schedule_of_a_small_world_breaks_a_promise(scenario, depth):
    """`make explore` goes deeper, in every scenario."""
    result = Search(SCENARIOS[scenario], depth).run()
    assert not result.violation, f"{result.violation}\n{SEPARATOR.join(result.schedule)}"
    assert result.is_whole
    assert result.worlds > depth


@pytest.mark.slow
def test_no_two_faults_on_the_whole_way_of_two_messages_break_a_promise():
    """The broker is killed, the host dies, anywhere and in either order; everything else happens as usual."""
    result = Search(SCENARIOS["at most once"], LONG, exceptions=0).run()
    assert not result.violation, f"{result.violation}\n{SEPARATOR.join(result.schedule)}"
    assert result.is_whole
    assert result.ends > 100


BROKEN = [
    (broken.acknowledged_when_received, "order", "ACK-FLOOR", 2),
    (broken.acknowledged_when_written, "machine", "LOG-FIRST", 1),
    (broken.ended_programs_lose_their_messages, "program", "NO-LOSS", 3),
    (broken.copies_are_not_recognised, "among agents", "TYPED-ONCE", 2),
    (broken.something_is_decided_without_an_event, "order", "D14", 0),
]
"""Rule, scenario that finds it, promise, steps of the shortened schedule."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutate", "name", "promise", "steps"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_rule_is_found_and_its_schedule_has_no_step_to_spare(mutate, name, promise, steps, monkeypatch):
    mutate(monkeypatch)
    scenario = SCENARIOS[name]
    result = Search(scenario, 8).run()
    assert promise in result.violation
    assert len(result.schedule) <= steps
    assert play(scenario, result.schedule)[1] == result.violation
    monkeypatch.undo()
    assert play(scenario, result.schedule)[1] == ""


def _after(*schedule):
    explored = Explored(SCENARIOS["order"])
    for name in schedule:
        explored.choices()[name]()
    return explored


TYPED = "requested TypeText delivery:del_250000000000000103_101"


@pytest.mark.parametrize(
    ("before", "one", "other"),
    [
        (("post", "Engine.push"), "frame deliver 1", "post"),
        (("post", "Engine.push", "frame deliver 1"), "Disk._durable", TYPED),
        (("post", "Engine.push", "frame deliver 1", "post"), TYPED, "Engine.push"),
    ],
)
def test_what_does_not_meet_leads_to_the_same_world_in_either_order(before, one, other):
    """Or each search would continue it twice."""
    assert _after(*before, one, other).key() == _after(*before, other, one).key()


def test_worlds_that_differ_are_told_apart():
    before = _after("post", "Engine.push")
    assert before.key() == _after("post", "Engine.push").key()
    keys = {_after("post", "Engine.push", name).key() for name in before.choices()} | {before.key()}
    assert len(keys) == len(before.choices()) + 1


def test_without_time_a_search_says_that_it_is_not_whole():
    assert not Search(SCENARIOS["order"], 9, seconds=0.0).run().is_whole
    assert furthest(SCENARIOS["order"], 0.0, by_depth=True)[0] == 0


def test_a_schedule_is_replayed_as_a_session(tmp_path):
    explored, violation = play(SCENARIOS["kills"], ("post", "Engine.push", "kill", "post"))
    assert not violation
    with (tmp_path / "kills.jsonl").open("wb") as file:
        write_session(explored, file)
    outcome = replay_session(tmp_path / "kills.jsonl")
    assert outcome.complete
    assert outcome.turns > 10

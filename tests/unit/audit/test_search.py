"""`log grep`, `log show` and `log stats` say what is in the log, and nothing else."""

from __future__ import annotations

import pytest

from relaybroker.adapters.eventstore import earlier_events, lookup
from relaybroker.audit.search import BadSearchError, Search, search, turn_of
from relaybroker.audit.statistics import as_lines, statistics
from relaybroker.domain import inputs
from relaybroker.domain.events import REGISTRY
from relaybroker.domain.reasons import Reason


@pytest.fixture
def busy(world, log):
    for name in ("w1", "w2"):
        world.spawn(name)
        world.deliver(name, 1, msg_id=f"M-{name}")
        world.advance(10)
    world.deliver("w1", 1, msg_id="STALE")
    world.frame(type="action.invoke", invocation_id="inv_1", action="echo", input={})
    world.tell(inputs.SendRequested(request_id="s", to="w9", text="hello", sender=""))
    world.tell(inputs.ReleaseRequested(request_id="r", name="w2"))
    return log(world)


def test_every_filter_keeps_what_it_says(busy, world):
    everything = world.log
    assert search(busy, Search(limit=10_000)) == everything
    for wanted, fits in (
        (Search(machine="delivery"), lambda item: item.event.machine == "delivery"),
        (Search(machine="link"), lambda item: item.event.machine == "node"),
        (Search(stream="delivery:del_M-w1"), lambda item: item.stream.startswith("delivery:del_M-w1")),
        (Search(topic="delivery.inj*"), lambda item: item.event.topic.startswith("delivery.inj")),
        (Search(reason="agent_released"), lambda item: getattr(item.event, "reason", "") == Reason.AGENT_RELEASED),
        (Search(since=world.now - 9), lambda item: item.at >= world.now - 9),
        (Search(until=world.now - 9), lambda item: item.at <= world.now - 9),
        (Search(after=20), lambda item: item.version > 20),
        (Search(text="STALE"), lambda item: "STALE" in str(item.event)),
        (Search(machine="delivery", agent="w2"), lambda item: item.stream.startswith("delivery:del_M-w2")),
    ):
        expected = [item for item in everything if fits(item)]
        assert expected, wanted
        assert len(expected) < len(everything)
        assert search(busy, wanted) == expected[: wanted.limit], wanted


def test_an_agent_is_everything_that_it_has(busy, world):
    streams = {item.stream for item in search(busy, Search(agent="w1", limit=1000))}
    session = next(iter(world.sessions))
    assert streams == {"agent:w1:1", f"worker:{session}", "delivery:del_M-w1_100", "mailbox:100"}


def test_the_newest_are_the_last_in_order(busy, world):
    assert search(busy, Search(limit=3, newest=True)) == world.log[-3:]


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ({"machine": "delivry"}, "nearest: delivery"),
        ({"topic": "delivery.aked.*"}, "nearest: delivery.a"),
        ({"reason": "to_large"}, "nearest: too_large"),
        ({"agent": "w11"}, "nearest: w1"),
    ],
)
def test_what_cannot_be_there_is_refused_with_the_nearest_names(busy, wrong, nearest):
    with pytest.raises(BadSearchError, match=nearest):
        search(busy, Search(**wrong))


def test_an_event_is_shown_with_its_cause_and_what_followed(busy, world):
    acked = world.events("delivery.acked.v1")[0]
    together = turn_of(busy, acked.version)
    assert acked in together
    assert {item.causation for item in together} == {acked.causation}
    assert f"{together[0].stream}@{together[0].version}" == acked.causation
    assert turn_of(busy, 10_000) == []


def test_statistics_count_what_the_log_has(busy, world):
    numbers = statistics(busy)
    assert numbers.events == len(world.log)
    assert numbers.streams == len({item.stream for item in world.log})
    assert sum(numbers.topics.values()) == numbers.events
    assert numbers.states["deliveries"] == {"acked": 2}
    assert numbers.states["agents"] == {"gone": 1, "live": 1}
    assert numbers.reasons["seq_conflict"] == {"mailbox.frame_ignored.v1": 1}
    assert as_lines(numbers)[0].startswith(f"{numbers.events} events")


def test_statistics_of_an_empty_log_are_nought(tmp_path, written, log):
    from tests.world import World

    numbers = statistics(log(World()))
    assert (numbers.events, numbers.first_at, numbers.topics) == (0, None, {})


def test_every_view_answers_and_gives_the_states_of_the_fold(busy, world):
    for kind, name, _ in earlier_events.definitions():
        if kind == "view":
            assert busy.query(f"SELECT * FROM {name}"), name
    live = {row["stream"]: row["state"] for row in busy.query("SELECT stream, state FROM v_agents")}
    for stream, registration in world.broker.state.registrations.items():
        assert live[stream] == registration.state
    links = busy.query("SELECT state FROM v_links ORDER BY position")
    assert links[-1]["state"] == world.broker.state.link.state


def test_every_topic_that_moves_a_machine_leads_to_one_state():
    for machine in {event.machine for event in REGISTRY.values() if event.trigger}:
        assert lookup.entered(machine)


def test_an_index_that_is_missing_or_old_is_made_when_the_log_is_opened_for_writing(world, written):
    import sqlite3

    from relaybroker.adapters.eventstore import recorders
    from relaybroker.audit.log import journal_of

    world.spawn("w1")
    path = journal_of(written(world))
    with sqlite3.connect(path) as database:
        database.execute("DROP INDEX i_message")
        database.execute("DROP VIEW v_links")
        database.execute("CREATE VIEW v_links AS SELECT 1 AS one")
    database.close()
    recorders.open_sqlite(path).close()
    with sqlite3.connect(path) as database:
        schema = dict(database.execute("SELECT name, sql FROM sqlite_schema WHERE name IN ('i_message', 'v_links')"))
    database.close()
    assert schema == {item.name: item.sql for item in earlier_events.definitions() if item.name in schema}

"""What Prometheus is told agrees with the log, and rules and dashboard ask for nothing that is not told."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from relaybroker.domain import delivery, events, inputs
from relaybroker.metrics.collected import Depths, Metrics
from relaybroker.metrics.dashboard import PANELS, dashboard
from tests.world import World

ALERTS = yaml.safe_load((resources.files("relaybroker.metrics") / "alerts.yml").read_text())["groups"]
RULES = [rule for group in ALERTS for rule in group["rules"]]
ELSEWHERE = {"up"}
"""What Prometheus itself tells."""


def _metrics(world, tmp_path):
    (tmp_path / "journal.sqlite").write_bytes(b"x" * 4096)
    depths = Depths(queues={"inbox": (3, 8192)}, log_locked_s=0.0, files={"database": tmp_path / "journal.sqlite"})
    return Metrics(lambda: world.broker.state, lambda: depths, version="1", clock=lambda: world.now)


def _samples(metrics):
    text, content_type = metrics.exposition("text/plain")
    assert content_type.startswith("text/plain")
    samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            samples[sample.name, *sorted(sample.labels.items())] = sample.value
    return samples


@pytest.fixture
def day(tmp_path):
    """Messages that end in all ways, over a crash of the broker and one of a program; observed from the middle on by a new process."""
    world = World()
    world.start()
    first = _metrics(world, tmp_path)
    world.online()
    world.spawn("w1")
    world.spawn("w2")
    for seq in range(1, 6):
        world.deliver("w1", seq)
    world.advance(60)
    world.auto_type = False
    world.deliver("w1", 6)
    first.observe(world.log)
    seen = len(world.log)
    world.crash()
    world.start()
    second = _metrics(world, tmp_path)
    world.online()
    world.advance(5)
    world.type_next()
    world.auto_type = True
    world.deliver("w2", 1, text="x" * 20_000)
    session = next(program.session_id for program in world.broker.state.workers.values() if program.name == "w2")
    world.report(inputs.ProgramExited, session, code=3, signal=None, last_output="", uptime_s=1.0, requested=False)
    second.observe(world.log[seen:])
    return world, second


def test_totals_and_latencies_are_those_of_the_log(day):
    world, metrics = day
    samples = _samples(metrics)
    counts = Counter(type(recorded.event) for recorded in world.log)
    assert samples["relay_deliveries_total", ("outcome", "offered")] == counts[events.DeliveryOffered] == 7
    assert samples["relay_deliveries_total", ("outcome", "typed")] == counts[events.DeliveryInjected] == 6
    assert samples["relay_deliveries_total", ("outcome", "dead_lettered")] == counts[events.DeliveryDeadLettered] == 1
    assert samples["relay_broker_agents_spawned_total",] == 2
    assert samples["relay_dead_letters",] == 1
    assert samples["relay_journal_position",] == len(world.log)
    assert samples["relay_journal_bytes", ("part", "database")] == 4096
    assert samples["relay_queue_depth", ("queue", "inbox")] == 3


def test_a_delivery_that_crossed_a_restart_is_measured_from_its_offer(day):
    _, metrics = day
    samples = _samples(metrics)
    assert samples["relay_delivery_offer_to_typed_seconds_count",] == 1, "the process saw one text typed"
    assert samples["relay_delivery_offer_to_typed_seconds_sum",] >= 5
    assert samples["relay_delivery_typed_to_ack_seconds_count",] == 1


def test_reasons_and_crashes_are_counted_by_name(day):
    _, metrics = day
    samples = _samples(metrics)
    assert samples["relay_delivery_reasons_total", ("event", "dead_lettered"), ("reason", "too_large")] == 1
    assert samples["relay_agent_crashes_total", ("agent", "w2")] == 1


def test_what_is_over_is_forgotten(day):
    """A broker that runs for years keeps nothing of deliveries that are settled."""
    world, metrics = day
    world.advance(60)
    assert metrics._typed == {}
    assert set(metrics._offered) == {
        delivery.stream for delivery in world.broker.state.deliveries.values() if not delivery.ended
    }


def _asked(query):
    text = query.replace("$__rate_interval", "5m").replace("$instance", ".*")
    promql_parser.parse(text)
    return set(re.findall(r"\b(relay_\w+|up)\b(?=[{\[ )<>=/]|$)", text))


@pytest.mark.parametrize(
    "query",
    [rule["expr"] for rule in RULES] + [query for panel in PANELS for query, _ in panel.queries],
)
def test_rules_and_dashboard_are_valid_and_name_only_what_is_told(day, query):
    _, metrics = day
    metrics.committed(0.001)
    text = metrics.exposition("text/plain")[0].decode()
    known = set(re.findall(r"^(\w+)(?=[{ ])", text, re.MULTILINE)) | set(
        re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    )
    asked = _asked(query)
    assert asked
    assert asked - known - ELSEWHERE == set()


def test_every_rule_says_what_to_do_and_every_panel_has_a_place_of_its_own():
    for rule in RULES:
        assert re.match(r"Relay[A-Za-z]+$", rule["alert"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"]
    places = [tuple(panel["gridPos"].values()) for panel in dashboard()["panels"]]
    assert len(set(places)) == len(PANELS)


@pytest.mark.parametrize("state", delivery.DeliveryState)
def test_the_oldest_that_waits_is_looked_for_in_every_place_before_the_terminal(world_with_one, tmp_path, state):
    (delivered,) = world_with_one.broker.state.deliveries.values()
    delivered.state = state
    waited = _samples(_metrics(world_with_one, tmp_path))[("relay_delivery_oldest_waiting_seconds",)]
    assert (waited > 0) == (delivery.PLACES[state] in (delivery.Place.UNDECIDED, delivery.Place.WAITING))


@pytest.fixture
def world_with_one():
    """A message has been with the terminal for a minute."""
    made = World()
    made.start()
    made.online()
    made.spawn("w1")
    made.auto_type = False
    made.deliver("w1", 1)
    made.advance(60)
    return made

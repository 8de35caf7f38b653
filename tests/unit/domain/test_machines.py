"""Every (state x trigger) of every table, and what the tables promise."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

from relaybroker.domain import couplings, events, fold, rules
from relaybroker.domain.announcing import ANNOUNCED, SILENT, agents, deliveries, engine
from relaybroker.domain.couplings import COUPLINGS, WORKER_ENDED, Coupling
from relaybroker.domain.delivery import PLACES, DeliveryState, Place
from relaybroker.domain.delivery import TABLE as DELIVERY
from relaybroker.domain.errors import IllegalTransition
from relaybroker.domain.machines import MACHINE_OF, MACHINES
from relaybroker.domain.reasons import SENTENCES, Reason
from relaybroker.domain.state_machine import Table

RULES = Path(rules.__file__).parent
ALL = [(table, state, trigger) for table in MACHINES.values() for state in table.states for trigger in table.triggers]


@pytest.mark.parametrize(("table", "state", "trigger"), ALL, ids=lambda value: getattr(value, "name", value))
def test_firing_and_following_agree_with_the_table(table, state, trigger):
    target = table.edges.get((state, trigger))
    if target is None:
        for step in (table.fire, table.follow):
            with pytest.raises(IllegalTransition) as caught:
                step(state, trigger)
            assert (caught.value.machine, caught.value.state, caught.value.trigger) == (table.name, state, trigger)
    else:
        assert table.fire(state, trigger) == table.follow(state, trigger) == target


@pytest.mark.parametrize("table", MACHINES.values(), ids=lambda table: table.name)
def test_a_terminal_state_can_be_reached_from_everywhere_and_where_none_is_the_first_one_can(table):
    can_end = set(table.terminal) or {table.initial}
    while True:
        more = {source for (source, _), target in table.edges.items() if target in can_end} - can_end
        if not more:
            break
        can_end |= more
    assert can_end == set(table.states)


@pytest.mark.parametrize("table", MACHINES.values(), ids=lambda table: table.name)
def test_the_diagram_shows_every_edge(table):
    diagram = table.mermaid()
    shown = sum(len(label.split(" | ")) for label in re.findall(r"^ +\w+ --> \w+: (.+)$", diagram, re.MULTILINE))
    assert shown == len(table.edges)


@pytest.mark.parametrize("table", MACHINES.values(), ids=lambda table: table.name)
def test_what_can_happen_in_a_state_is_what_the_table_says(table):
    edges = {(state, trigger): target for state in table.states for trigger, target in table.leaving(state)}
    assert edges == table.edges


@pytest.mark.parametrize("table", MACHINES.values(), ids=lambda table: table.name)
def test_no_machine_holds_a_model(table):
    assert table._machine.models == []


def test_every_event_uses_a_trigger_of_its_machine_and_every_trigger_is_used():
    used = {(event.machine, event.trigger) for event in events.REGISTRY.values() if event.trigger}
    assert used == {(machine, trigger) for machine, table in MACHINE_OF.items() for trigger in table.triggers}


def test_topics_are_versioned_and_never_import_paths():
    for topic in events.REGISTRY:
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+\.v\d+", topic), topic


def test_every_reason_has_one_sentence():
    assert set(SENTENCES) == set(Reason)
    assert all(sentence.endswith(".") for sentence in SENTENCES.values())


@pytest.mark.parametrize("row", COUPLINGS, ids=lambda row: f"{row.when}: {row.table.name}")
def test_a_coupling_can_move_whatever_it_concerns(row):
    assert row.states
    assert all((state, row.trigger) in row.table.edges for state in row.states)


@pytest.mark.parametrize(("state", "returnable"), WORKER_ENDED)
def test_the_fate_of_a_delivery_is_one_that_its_state_allows(state, returnable):
    assert all((state, trigger) in DELIVERY.edges for trigger in WORKER_ENDED[state, returnable].triggers)


def test_every_coupling_is_asked_by_a_rule():
    source = "".join(path.read_text(encoding="utf-8") for path in RULES.glob("*.py"))
    names = [name for name, value in vars(couplings).items() if isinstance(value, Coupling)]
    assert len(names) == len(COUPLINGS), "each is in the table"
    assert [name for name in names if f"couplings.{name}.concerns(" not in source] == []


def test_the_coupling_table_covers_every_open_delivery_state():
    of_no_program = {"injected", "in_doubt"}
    open_states = set(DELIVERY.states) - DELIVERY.terminal - of_no_program
    assert {state for state, _ in WORKER_ENDED} == open_states


class Light(StrEnum):
    RED = "red"
    GREEN = "green"


class Turn(StrEnum):
    GO = "go"


@pytest.mark.parametrize(
    ("terminal", "edges", "message"),
    [
        ([], [(Turn.GO, [Light.RED], Light.GREEN)], "has no exit"),
        ([Light.GREEN], [], "unreachable"),
        ([Light.RED, Light.GREEN], [(Turn.GO, [Light.RED], Light.GREEN)], "has an exit"),
        (
            [Light.GREEN],
            [(Turn.GO, [Light.RED], Light.GREEN), (Turn.GO, [Light.RED], Light.RED)],
            "two targets",
        ),
    ],
)
def test_a_table_that_is_not_total_cannot_be_built(terminal, edges, message):
    with pytest.raises(ValueError, match=message):
        Table("light", states=Light, terminal=terminal, triggers=Turn, edges=edges, rules="")


def test_every_state_of_a_delivery_has_its_place():
    assert PLACES.keys() == set(DeliveryState)
    assert {state for state, place in PLACES.items() if place is Place.ENDED} == DELIVERY.terminal


def test_every_event_is_announced_to_local_clients_or_said_to_be_silent():
    assert ANNOUNCED.keys() | SILENT == set(events.REGISTRY.values())
    assert not ANNOUNCED.keys() & SILENT
    assert len(ANNOUNCED) == sum(len(part.ANNOUNCED) for part in (agents, deliveries, engine)), "each in one place"


def test_what_an_event_says_of_a_delivery_and_every_deadline_reach_the_state():
    forgotten = [
        topic
        for topic, event in events.REGISTRY.items()
        if ("until" in event.__struct_fields__ or (event.machine == DELIVERY.name and event.__struct_fields__))
        and event not in fold._CHANGES
    ]
    assert forgotten == []

"""What the views say about a state (local-api.md section 1.3; U02 to U04)."""

from __future__ import annotations

import copy

import pytest

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.audit_routes import cursor
from relaybroker.domain.entities import Delivery, Registration, Worker
from relaybroker.domain.events import Harness
from relaybroker.domain.inputs import Settings, SpawnSpec
from relaybroker.domain.mailbox import Mailbox
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import State

NOW = 10_000.0


@pytest.fixture
def state():
    """A broker that is online, with one ready agent `w1`."""
    made = State(now=NOW, started_at=NOW - 60, boot_id="b", epoch="ep_1")
    made.settings = Settings(
        node_id="node_1", node_name="vm", workspace_id="ws_1", base_url="http://x", version="v", broker_name="desk"
    )
    made.link.state, made.link.since = "online", NOW - 50
    made.link.online_at, made.link.synced_at, made.link.heard_at = NOW - 50, NOW - 49, NOW - 2
    made.host.attached, made.host.pid = True, 5
    add_agent(made, "w1")
    return made


def add_agent(state, name):
    stream, session, agent_id = f"agent:{name}:1", f"ws_{name}", f"id_{name}"
    state.registrations[stream] = Registration(
        stream=stream,
        name=name,
        generation=1,
        state="live",
        session_id=session,
        source="http_api",
        spec=SpawnSpec(name=name, cli="cat"),
        harness=Harness(profile="default"),
        argv=("cat",),
        until=0.0,
        reserved_at=NOW - 40,
        live_at=NOW - 39,
        agent_id=agent_id,
    )
    state.workers[session] = Worker(
        stream=f"worker:{session}",
        session_id=session,
        registration=stream,
        name=name,
        agent_id=agent_id,
        state="ready",
        until=0.0,
        launched_at=NOW - 40,
        pid=4711,
        active_at=NOW - 3,
        typed=2,
        last_typed_at=NOW - 30,
    )
    return state.workers[session]


def add_delivery(state, name, number, delivery_state, *, age, reason=None):
    session = f"ws_{name}"
    stream = f"delivery:{number}"
    state.deliveries[stream] = Delivery(
        stream=stream,
        typing_id=str(number),
        delivery_id=f"del_{number}",
        attempt=1,
        agent_id=f"id_{name}",
        name=name,
        seq=number,
        msg_id=f"M{number}",
        source="engine",
        sender="alice",
        target=name,
        body="the words of the message",
        thread_id="",
        priority=None,
        mode="wait",
        workspace_id="ws_1",
        state=delivery_state,
        offered_at=NOW - age,
        changed_at=NOW - age,
        reason=reason,
    )
    if delivery_state in ("held", "queued"):
        state.workers[session].waiting.append(stream)
    return state.deliveries[stream]


def the_agent(state):
    (agent,) = views.agents(state, NOW)
    return agent


def test_a_view_changes_nothing(state):
    add_delivery(state, "w1", 1, "held", age=5, reason=Reason.NOT_READY)
    before = copy.deepcopy(state)
    views.status(state, NOW)
    views.health(state, NOW, known=True)
    views.broker_metrics(state, NOW)
    assert state == before


def test_a_proven_link_and_an_attached_host_are_healthy(state):
    assert views.health(state, NOW, known=True).status == "ok"


@pytest.mark.parametrize("missing", ["state", "online_at", "synced_at", "heard_at", "host"])
def test_health_is_not_ok_until_registration_sync_and_frame_are_all_there(state, missing):
    """U04."""
    if missing == "host":
        state.host.attached = False
    else:
        setattr(state.link, missing, "backing_off" if missing == "state" else 0.0)
    assert views.health(state, NOW, known=True).status == "degraded"


def test_a_sync_of_a_former_socket_proves_nothing_about_this_one(state):
    """U04."""
    state.link.synced_at = state.link.online_at - 1
    assert views.health(state, NOW, known=True).status == "degraded"


def test_the_link_gives_its_ages(state):
    """U04."""
    link = views.link(state, NOW)
    assert (link.registered_secs_ago, link.synced_secs_ago, link.heard_secs_ago) == (50.0, 49.0, 2.0)


def test_a_link_that_waits_says_why_and_until_when(state):
    state.link.state, state.link.reason, state.link.until = "backing_off", Reason.DIAL_FAILED, NOW + 4
    link = views.link(state, NOW)
    assert (link.reason, link.next_step_in_secs, link.registered_secs_ago) == ("dial_failed", 4.0, None)


def test_health_shows_a_stranger_no_workspace_and_no_detail(state):
    state.link.detail = "connection to ws_1 refused"
    assert "ws_1" not in str(views.health(state, NOW, known=False))
    assert views.health(state, NOW, known=False).workspace_id == "ws_unknown"


def test_an_agent_says_when_it_was_typed_to_last_and_where_its_cursor_stands(state):
    """U03."""
    state.mailboxes["id_w1"] = Mailbox(agent_id="id_w1", name="w1", generation=1)
    agent = the_agent(state)
    assert (agent.typed, agent.last_typed_secs_ago) == (2, 30.0)
    assert (agent.cursor, agent.ack_floor) == (None, None)
    assert (agent.acked, agent.gap_buffered, agent.waiting, agent.in_terminal, agent.held_count) == (None, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("delivery_state", "reason", "shown"),
    [
        ("held", Reason.NOT_READY, "not_ready"),
        ("held", Reason.BLOCKED_BY_DIALOG, "blocked_by_dialog"),
        ("queued", Reason.WRITE_BACKOFF, "write_backoff"),
        ("queued", None, "queued"),
    ],
)
def test_messages_that_wait_say_why_and_for_how_long(state, delivery_state, reason, shown):
    """U03."""
    add_delivery(state, "w1", 1, delivery_state, age=7, reason=reason)
    add_delivery(state, "w1", 2, delivery_state, age=3, reason=reason)
    agent = the_agent(state)
    assert (agent.waiting, agent.waiting_since_secs, agent.waiting_reason) == (2, 7.0, shown)
    assert agent.held_count == (2 if delivery_state == "held" else 0)


def test_messages_that_wait_for_a_lost_host_or_behind_others_say_so(state):
    add_delivery(state, "w1", 1, "queued", age=7)
    state.workers["ws_w1"].typing.append("delivery:0")
    assert the_agent(state).waiting_reason == "behind_earlier"
    state.host.attached = False
    assert the_agent(state).waiting_reason == "pty_host_lost"


def test_an_agent_to_which_nothing_is_typed_although_messages_wait_is_called_deaf(state):
    """U03."""
    add_delivery(state, "w1", 1, "queued", age=views.DEAF_S - 1)
    assert the_agent(state).deaf_since_secs is None
    state.deliveries["delivery:1"].offered_at = NOW - views.DEAF_S - 5
    state.workers["ws_w1"].last_typed_at = NOW - views.DEAF_S - 4
    assert the_agent(state).deaf_since_secs == views.DEAF_S + 4
    state.workers["ws_w1"].last_typed_at = NOW - 1
    assert the_agent(state).deaf_since_secs is None


def test_nothing_that_waits_is_no_deafness(state):
    state.workers["ws_w1"].last_typed_at = 0.0
    assert the_agent(state).deaf_since_secs is None


@pytest.mark.parametrize(
    ("worker_state", "idle", "shown"),
    [
        ("ready", False, "working"),
        ("ready", True, "idle"),
        ("blocked", False, "blocked_on_send"),
        ("booting", False, "working"),
    ],
)
def test_the_current_state_is_one_of_three_words(state, worker_state, idle, shown):
    state.workers["ws_w1"].state, state.workers["ws_w1"].idle = worker_state, idle
    assert the_agent(state).current_state == shown


def test_open_deliveries_are_listed_oldest_first_with_their_stage_and_counted(state):
    """U02."""
    add_delivery(state, "w1", 2, "queued", age=3)
    add_delivery(state, "w1", 1, "held", age=7, reason=Reason.NOT_READY)
    add_delivery(state, "w1", 3, "injected", age=2)
    add_delivery(state, "w1", 4, "acked", age=1)
    status = views.status(state, NOW)
    assert [(item.delivery_id, item.state) for item in status.pending_deliveries] == [
        ("del_1", "held"),
        ("del_2", "queued"),
        ("del_3", "injected"),
    ]
    assert status.pending_delivery_count == views.health(state, NOW, known=True).pending_delivery_count == 3
    first = status.pending_deliveries[0]
    assert (first.held, first.last_error, first.age_ms) == (True, "not_ready", 7000)
    assert (first.worker_name, first.event_id, first.sender, first.to) == ("w1", "M1", "alice", "w1")


def test_no_view_shows_what_a_message_says(state):
    add_delivery(state, "w1", 1, "held", age=7, reason=Reason.NOT_READY)
    assert "the words of the message" not in str(views.status(state, NOW))


def test_agents_are_sorted_and_those_that_are_over_are_left_out(state):
    add_agent(state, "a1")
    add_agent(state, "zz")
    state.registrations["agent:zz:1"].state = "deregistering"
    assert [agent.name for agent in views.agents(state, NOW)] == ["a1", "w1"]
    assert views.health(state, NOW, known=True).agent_count == 2


def test_an_agent_without_a_program_yet_is_listed_without_numbers_of_one(state):
    state.workers.clear()
    agent = the_agent(state)
    assert (agent.pid, agent.worker, agent.ready, agent.last_activity_ms) == (None, None, False, None)


def test_a_state_before_the_first_input_has_every_view():
    empty = State()
    assert views.health(empty, NOW, known=True).status == "degraded"
    assert views.status(empty, NOW).agents == []
    assert views.broker_metrics(empty, NOW).active_agents == 0


def test_a_cursor_names_what_is_open_what_is_missing_and_what_was_given_back():
    box = Mailbox("101", name="w1", base=0, recv=2, floor=1)
    box.open, box.returned, box.buffer = {2: "delivery:x"}, {2: 1}, {5: {}, 7: {}}
    shown = cursor(State(), box)
    assert (shown.open, shown.holes, shown.returned, shown.acknowledged) == ([2], [3, 4, 6], [2], None)

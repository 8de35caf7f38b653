"""What a person finds in the broker's log about the node link."""

from __future__ import annotations

import logging

import pytest

from relaybroker.domain import events
from relaybroker.domain.events import Recorded
from relaybroker.domain.reasons import Reason
from relaybroker.node.link_log import MAX_KINDS, LinkLog


def observe(*heard: events.Event) -> None:
    LinkLog().observe(
        Recorded(stream="node:n", version=1, at=0.0, causation="", correlation="", event=event) for event in heard
    )


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def test_an_error_of_the_engine_is_an_error_with_its_code(caplog: pytest.LogCaptureFixture) -> None:
    """F043, W-25: also one that answers no request of ours."""
    observe(events.EngineErrorReceived(code="invalid_message", message="bad frame", request_id="x"))
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("ERROR", "the engine says invalid_message to something: bad frame")
    ]


def test_a_session_that_ends_is_one_warning_with_its_cause_and_count(caplog: pytest.LogCaptureFixture) -> None:
    """F044, F052: one per episode, however many frames were waiting."""
    detail = "outbound_overflow: 335 frames of 33501340 bytes are waiting"
    observe(
        events.LinkBackedOff(reason=Reason.LINK_CLOSED, detail=detail, delay_s=1.5, until=1.5),
        events.LinkDialled(dial=2),
    )
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert detail in caplog.text
    assert "1.5 s" in caplog.text


def test_a_refusal_is_an_error_that_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """F044, F048."""
    observe(events.LinkRefused(reason=Reason.TOKEN_REJECTED, detail="401 unauthorized; set a valid one", until=300.0))
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert "set a valid one" in caplog.text


def test_what_a_newer_engine_does_not_accept_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """2.13, F054."""
    observe(
        events.LinkOnline(dial=1, not_accepted=("spawn:claude: quota",)),
        events.InventoryRejected(agents=("{'agent_id': '1'}",)),
    )
    assert [one.levelname for one in caplog.records] == ["INFO", "WARNING", "WARNING"]
    assert "spawn:claude: quota" in caplog.text


def test_frames_of_one_unusable_kind_are_written_down_once(caplog: pytest.LogCaptureFixture) -> None:
    """F059: the drift is warned about once; kinds are bounded."""
    many = [
        events.FrameRejected(reason=Reason.UNKNOWN_FRAME, frame_type=f"t{number}", detail="")
        for number in range(2 * MAX_KINDS)
    ]
    observe(many[0], many[0], many[1], *many)
    assert len(caplog.records) == MAX_KINDS

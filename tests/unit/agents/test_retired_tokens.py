from __future__ import annotations

from relaybroker.adapters.vault import Vault
from relaybroker.agents.retired_tokens import RetiredTokens
from relaybroker.domain import events
from relaybroker.domain.events import Recorded
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import State


def recorded(stream: str, event: events.Event) -> Recorded:
    return Recorded(stream=stream, version=1, at=0.0, causation="", correlation="", event=event)


def accepted(agent_id: str) -> events.Event:
    return events.RegistrationAccepted(agent_id=agent_id, fingerprint="")


async def test_a_token_ends_with_its_agent(vault: Vault) -> None:
    tokens = RetiredTokens(vault, State())
    vault.keep("agent:1", "at_live_1")
    vault.keep("agent:2", "at_live_2")
    tokens.observe([recorded("agent:a:1", accepted("1")), recorded("agent:b:1", accepted("2"))])
    tokens.observe([recorded("agent:a:1", events.AgentRetired())])
    await tokens.settle()
    assert not vault.has("agent:1")
    assert vault.has("agent:2")


async def test_a_token_stays_while_another_generation_holds_the_same_agent(vault: Vault) -> None:
    tokens = RetiredTokens(vault, State())
    vault.keep("agent:1", "at_live_1")
    tokens.observe([recorded("agent:a:1", accepted("1")), recorded("agent:a:2", accepted("1"))])
    tokens.observe([recorded("agent:a:1", events.AgentRetired())])
    await tokens.settle()
    assert vault.has("agent:1")


async def test_the_token_that_a_late_answer_brought_ends_with_the_registration_that_it_was_kept_for(
    vault: Vault,
) -> None:
    """R8: nothing of a failed registration stays on the disk."""
    tokens = RetiredTokens(vault, State())
    vault.keep("agent:1", "at_live_1")
    tokens.observe([recorded("agent:a:2", events.LateRegistrationKept(agent_id="1", request_id="r"))])
    failed = events.RegistrationFailed(reason=Reason.REGISTRATION_TIMEOUT, code="", detail="")
    tokens.observe([recorded("agent:a:2", failed)])
    await tokens.settle()
    assert not vault.has("agent:1")


async def test_the_token_of_a_registration_that_came_too_late_is_forgotten(vault: Vault) -> None:
    tokens = RetiredTokens(vault, State())
    vault.keep("agent:1", "at_live_1")
    tokens.observe([recorded("agent:a:1", events.LateRegistrationRefused(agent_id="1", request_id="r"))])
    await tokens.settle()
    assert not vault.has("agent:1")


async def test_a_newer_token_of_the_same_agent_survives_the_end_of_the_older(vault: Vault) -> None:
    tokens = RetiredTokens(vault, State())
    vault.keep("agent:1", "at_live_old")
    tokens.observe([recorded("agent:a:1", accepted("1")), recorded("agent:a:1", events.AgentRetired())])
    vault.keep("agent:1", "at_live_new")
    await tokens.settle()
    assert vault.token("agent:1") == "at_live_new"

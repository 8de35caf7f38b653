"""Carrying out a plan over the local API, remembering what was made of which agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import msgspec

from relaybroker.adapters.private_files import read_private, write_private
from relaybroker.config.fleet_file import Agent
from relaybroker.fleet.plan import Applied, Step, plan


class Ask(Protocol):
    """Asks the local API: status and decoded answer."""

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None, /) -> tuple[int, Any]: ...


class Done(NamedTuple):
    """What became of a step; `problem` is "" where it was done."""

    step: Step
    problem: str


def memory_of(state: Path, broker: str) -> Path:
    """The file that remembers what was made of the fleet of a broker."""
    return state / f"fleet-{broker}.json"


def planned(fleet: Mapping[str, Agent], project: Path, memory: Path, ask: Ask) -> list[Step]:
    """What would be done.

    Raises:
        ConnectionError: the broker refuses to say what runs.
    """
    wanted = {name: agent.fingerprint(project) for name, agent in fleet.items()}
    return plan(wanted, _running(ask), _recall(memory))


def apply(
    fleet: Mapping[str, Agent],
    project: Path,
    memory: Path,
    ask: Ask,
    environ: Mapping[str, str],
    report: Callable[[Done], None],
) -> list[Done]:
    """Make it so; what cannot be done is told, and the rest is done all the same.

    Raises:
        ConnectionError: the broker refuses to say what runs.
    """
    wanted = {name: agent.fingerprint(project) for name, agent in fleet.items()}
    running, applied = _running(ask), _recall(memory)
    kept = {name: one for name, one in applied.items() if running.get(name) == one.session}
    results: list[Done] = []
    for step in plan(wanted, running, applied):
        problem = ""
        if step.kind in ("stop", "restart"):
            problem = _refusal(*ask("DELETE", f"/api/spawned/{quote(step.name, safe='')}", {"reason": step.why}))
            if not problem:
                kept.pop(step.name, None)
        if step.kind in ("start", "restart") and not problem:
            problem = _start(fleet[step.name], step.name, project, ask, environ)
            session = "" if problem else _running(ask).get(step.name, "")
            if session:
                kept[step.name] = Applied(wanted[step.name], session)
        write_private(memory, msgspec.json.encode(kept))
        results.append(Done(step, problem))
        report(results[-1])
    return results


def _start(agent: Agent, name: str, project: Path, ask: Ask, environ: Mapping[str, str]) -> str:
    try:
        body = agent.request(name, project, environ)
    except LookupError as error:
        return str(error.args[0])
    return _refusal(*ask("POST", "/api/spawn", body))


def _refusal(status: int, answer: Any) -> str:
    return "" if status < 300 else f"{answer.get('message', '?')} [{answer.get('code', '?')}]"


def _running(ask: Ask) -> dict[str, str]:
    status, answer = ask("GET", "/api/spawned")
    if status >= 300:
        raise ConnectionError(_refusal(status, answer))
    return {row["name"]: row["sessionId"] for row in answer["agents"]}


def _recall(memory: Path) -> dict[str, Applied]:
    try:
        return msgspec.json.decode(read_private(memory), type=dict[str, Applied])
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}

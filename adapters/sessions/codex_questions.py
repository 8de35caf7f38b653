"""What Codex' server asks a client, as questions, and a person's answers as its protocol wants them. Pure.

Known are the permission to run a command, and one question with options. Whatever else it asks is left to its terminal, which shows
everything: of a change of files, for example, the request says neither which nor what.
Source: ADR-0095; held by tests/agents/test_door_facts.py against the real program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters.sessions.rows import Row, inner
from relaybroker.domain.questions import Option, Question, question

if TYPE_CHECKING:
    from collections.abc import Iterable

_DECISIONS = ("accept", "acceptForSession", "decline", "cancel")
"""What may be decided where the request does not say."""
_KNOWN = {
    "accept": ("Yes, once", "allow_once"),
    "acceptForSession": ("Yes, and do not ask again in this session", "allow_always"),
    "decline": ("No, and go on without", "reject_once"),
    "cancel": ("No, and stop", "reject_once"),
}


class Request(NamedTuple):
    """A request of the server that a person may answer."""

    identifier: object
    """Of the request."""
    thread: str
    question: Question
    results: dict[str, Row]
    """Option -> what answers the request."""


def request(identifier: object, method: str, values: Row) -> Request | None:
    """The request as a question; None if it is none that is known here."""
    thread, item = values.get("threadId"), values.get("itemId")
    if not isinstance(thread, str) or not isinstance(item, str):
        return None
    match method:
        case "item/commandExecution/requestApproval":
            lines = ["Run this command?", *_said(values, ("$ ", "command"), ("in ", "cwd"), ("Reason: ", "reason"))]
            kind, offered = "permission", list(_decisions(values))
        case "item/tool/requestUserInput":
            lines, offered = _choice(values)
            kind = "question"
        case _:
            return None
    if not offered:
        return None
    asked = question(f"{item}/{identifier}", kind, lines, [option for option, _ in offered])
    return Request(identifier, thread, asked, {option.id: result for option, result in offered})


def _said(values: Row, *wanted: tuple[str, str]) -> Iterable[str]:
    for before, name in wanted:
        if isinstance(said := values.get(name), str) and said:
            yield before + said


def _decisions(values: Row) -> Iterable[tuple[Option, Row]]:
    available = values.get("availableDecisions")
    for number, decision in enumerate(available if isinstance(available, list) else _DECISIONS, 1):
        name = decision if isinstance(decision, str) else next(iter(decision), "") if isinstance(decision, dict) else ""
        label, kind = _label(name, decision)
        if label:
            yield Option(f"{number}-{name}", label, kind), {"decision": decision}


def _label(name: str, decision: object) -> tuple[str, str]:
    """Label and kind; no label: nobody could say what it does."""
    if name in _KNOWN:
        return _KNOWN[name]
    if name == "acceptWithExecpolicyAmendment":
        words = inner(decision, name, "execpolicy_amendment")
        if isinstance(words, list):
            return (
                f"Yes, and do not ask again for commands that start with: {' '.join(map(str, words))}",
                "allow_always",
            )
    if name == "applyNetworkPolicyAmendment":
        action, host = (inner(decision, name, "network_policy_amendment", key) for key in ("action", "host"))
        if action in ("allow", "deny"):
            always = "allow_always" if action == "allow" else "reject_always"
            return f"{'Yes' if action == 'allow' else 'No'}, and {action} {host} from now on", always
    return "", ""


def _choice(values: Row) -> tuple[list[str], list[tuple[Option, Row]]]:
    """One question with options; several at once, a secret or a text are for the terminal."""
    questions = values.get("questions")
    one = questions[0] if isinstance(questions, list) and len(questions) == 1 else None
    identifier, options = inner(one, "id"), inner(one, "options")
    if not isinstance(identifier, str) or not isinstance(options, list) or inner(one, "isSecret"):
        return [], []
    lines = [said for key in ("header", "question") if isinstance(said := inner(one, key), str)]
    offered = []
    for number, option in enumerate(options, 1):
        label, more = inner(option, "label"), inner(option, "description")
        if isinstance(label, str):
            shown = f"{label} ({more})" if more else label
            offered.append((Option(str(number), shown), {"answers": {identifier: {"answers": [label]}}}))
    return lines, offered

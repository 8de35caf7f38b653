"""What a Claude Code without terminal asks by a control request, as questions, and a person's answers as it wants them. Pure.

`can_use_tool` is a permission, with suggestions of what may be allowed from now on. Of two tools the permission is the question itself:
`ExitPlanMode` (a plan to approve) and `AskUserQuestion` (choices, answered in its input).
Source: ADR-0096; held by tests/agents/test_stream_json.py against the real program.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from relaybroker.adapters.sessions.rows import Row, inner
from relaybroker.domain.questions import Option, Question, question

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SUGGESTIONS = 8
"""Of what may be allowed from now on."""
MAX_STEPS = 8
"""Questions that one request asks, one behind the other."""
_ONCE, _NO, _STOP, _SKIP = "once", "no", "stop", "skip"
_REFUSED = "A person refused this."


@dataclass
class Request:
    """One request, and what was answered of it so far."""

    identifier: str
    steps: list[Question]
    """What is still to be asked, the first one first."""
    input: Row
    """Of the tool."""
    results: dict[str, Row]
    """Option -> what answers the whole request; an option of a choice is none of these."""
    asked: list[str] = field(default_factory=list)
    """The questions of a choice, as the program words them."""
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    """Step -> option -> the label that the program gave it."""
    chosen: dict[str, str] = field(default_factory=dict)

    @property
    def question(self) -> Question:
        return self.steps[0]

    def answer(self, option_id: str) -> Row | None:
        """What is sent upon a person's choice; None: something is still to be asked. Raises KeyError: it offers no such option."""
        step = self.steps[0]
        if option_id in self.results:
            return self.results[option_id]
        label = self.labels[step.id][option_id]
        self.chosen[self.asked[len(self.chosen)]] = label
        self.steps.pop(0)
        return None if self.steps else _allow(self.input | {"answers": self.chosen})


def request(identifier: str, values: Row) -> Request | None:
    """The request as something that a person can answer; None if it is none that is known here."""
    tool, given = values.get("tool_name"), values.get("input")
    if values.get("subtype") != "can_use_tool" or not isinstance(tool, str) or not isinstance(given, dict):
        return None
    if tool == "AskUserQuestion" and (choice := _choice(identifier, given)) is not None:
        return choice
    if tool == "ExitPlanMode":
        results = {_ONCE: _allow(given), _NO: _deny("A person wants you to go on planning.")}
        options = [Option(_ONCE, "Yes, go on with it", "allow_once"), Option(_NO, "No, go on planning", "reject_once")]
        plan = given.get("plan")
        lines = [
            "Go on with this plan?",
            plan if isinstance(plan, str) else "(It is in the file that the program wrote.)",
        ]
        return Request(identifier, [question(identifier, "plan", lines, options)], given, results)
    return _permission(identifier, tool, given, values)


def _permission(identifier: str, tool: str, given: Row, values: Row) -> Request:
    results = {_ONCE: _allow(given)}
    options = [Option(_ONCE, "Yes, once", "allow_once")]
    suggestions = values.get("permission_suggestions")
    for number, one in enumerate(suggestions[:MAX_SUGGESTIONS] if isinstance(suggestions, list) else (), 1):
        if label := _suggested(one):
            options.append(Option(f"always-{number}", f"Yes, and {label}", "allow_always"))
            results[f"always-{number}"] = _allow(given) | {"updatedPermissions": [one]}
    options += [Option(_NO, "No, and go on without", "reject_once"), Option(_STOP, "No, and stop", "reject_once")]
    results |= {_NO: _deny(_REFUSED), _STOP: _deny(_REFUSED) | {"interrupt": True}}
    lines = [f"May it use {tool}?", *_shown(given)]
    if isinstance(reason := values.get("decision_reason"), str):
        lines.append(f"Reason: {reason}")
    return Request(identifier, [question(identifier, "permission", lines, options)], given, results)


def _shown(given: Row) -> Iterator[str]:
    for name, value in given.items():
        yield f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def _suggested(one: Any) -> str:
    """What would be allowed from now on; "" if nobody could say."""
    for_how_long = "in this session" if inner(one, "destination") == "session" else "from now on"
    rules, folders = inner(one, "rules"), inner(one, "directories")
    match inner(one, "type"):
        case "addRules" if inner(one, "behavior") == "allow" and isinstance(rules, list):
            allowed = [f"{inner(rule, 'toolName')}({inner(rule, 'ruleContent') or 'anything'})" for rule in rules]
            return f"allow {', '.join(allowed)} {for_how_long}"
        case "addDirectories" if isinstance(folders, list):
            return f"allow the folders {', '.join(map(str, folders))} {for_how_long}"
        case "setMode" if isinstance(mode := inner(one, "mode"), str):
            return f"switch to the mode {mode} {for_how_long}"
    return ""


def _choice(identifier: str, given: Row) -> Request | None:
    wanted = given.get("questions")
    if not isinstance(wanted, list) or not 0 < len(wanted) <= MAX_STEPS:
        return None
    made = Request(identifier, [], given, {_SKIP: _deny("A person did not answer.")})
    for number, one in enumerate(wanted, 1):
        text, options = inner(one, "question"), inner(one, "options")
        if not isinstance(text, str) or not isinstance(options, list):
            return None
        step, offered = f"{identifier}/{number}", []
        made.labels[step] = {}
        for at, option in enumerate(options, 1):
            label, more = inner(option, "label"), inner(option, "description")
            if isinstance(label, str):
                made.labels[step][str(at)] = label
                offered.append(Option(str(at), f"{label} ({more})" if more else label))
        offered.append(Option(_SKIP, "No answer"))
        made.asked.append(text)
        made.steps.append(question(step, "question", [text], offered))
    return made


def _allow(given: Row) -> Row:
    return {"behavior": "allow", "updatedInput": given}


def _deny(message: str) -> Row:
    return {"behavior": "deny", "message": message}

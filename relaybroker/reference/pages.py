"""The generated pages: machines, events, reasons, commands, SQL views.

`python -m relaybroker.reference.pages` writes them, `--check` compares.

Each page is made from the code that it describes; CI fails when a page says something else than the code.
"""

from __future__ import annotations

import ast
import difflib
import functools
import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_type_hints

import click

from relaybroker.adapters.eventstore import earlier_events, lookup
from relaybroker.adapters.http.api.table import AGENT_ROUTES, NOT_BUILT, ROUTES
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.agents import agent_environment
from relaybroker.api.openapi import document
from relaybroker.config.chosen import SECRETS, Chosen, Retention, flag_of, variables_of
from relaybroker.config.fleet_file import Agent
from relaybroker.domain import couplings
from relaybroker.domain.events import REGISTRY
from relaybroker.domain.inputs import SpawnSpec
from relaybroker.domain.machines import MACHINES
from relaybroker.domain.reasons import SENTENCES, Reason
from relaybroker.domain.remedies import REMEDIES
from relaybroker.engine.authority import ABSENT, AUTHORITY, OPEN, Rule
from relaybroker.mcp.tools import MODELS_TOOLS
from relaybroker.reference.guarantees import GUARANTEES, NOT_PROMISED

DOCS = Path(__file__).parents[2] / "docs"
TESTS = DOCS.parent / "tests"
_NOTE = "<!-- Made by `python -m relaybroker.reference.pages` from the code. Do not edit. -->\n"


def machines() -> str:
    """Every state machine: rules, table, diagram."""
    parts = ["# State machines\n"]
    for table in MACHINES.values():
        parts.append(f"## {table.name}\n\n{table.rules}\n\n```mermaid\n{table.mermaid()}\n```\n")
        parts.append("| in | can happen | and then it is |\n|---|---|---|")
        for state in table.states:
            exits = table.leaving(state) or [("nothing: it has ended", "")]
            parts += [f"| {_state(table, state)} | {trigger} | {_state(table, target)} |" for trigger, target in exits]
        parts.append("")
    return "\n".join([*parts, *_couplings()])


def _couplings() -> list[str]:
    """What happens to one machine because of another."""
    parts = ["## Couplings\n", "| when | machine | in | trigger | what that means | but |\n|---|---|---|---|---|---|"]
    for row in couplings.COUPLINGS:
        states = ", ".join(state for state in row.table.states if state in row.states)
        parts.append(f"| {row.when} | {row.table.name} | {states} | {row.trigger} | {row.then} | {row.but} |")
    for (state, returnable), fate in couplings.WORKER_ENDED.items():
        kept = "the engine keeps it" if returnable else "the engine does not keep it"
        meaning = {
            couplings.Settlement.RETURN: "the engine offers it again",
            couplings.Settlement.DEAD_LETTER: "it is kept for a person",
            couplings.Settlement.IN_DOUBT: "the in-doubt policy settles it",
        }[fate]
        parts.append(
            f"| its worker ends, and {kept} | delivery | {state} | {' or '.join(fate.triggers)} | {meaning} | |"
        )
    return [*parts, ""]


def _state(table: Any, name: str) -> str:
    return f"**{name}**" if name in table.terminal else name


def events() -> str:
    """Every recorded event with its fields."""
    parts = [
        "# Recorded events\n",
        (
            "A *fact* was observed outside; a *decision* is the broker's own. The trigger is the transition that "
            "the event fires in its machine.\n"
        ),
        "| topic | kind | machine | trigger | fields | meaning |\n|---|---|---|---|---|---|",
    ]
    for topic, event in REGISTRY.items():
        hints = get_type_hints(event)
        fields = ", ".join(f"`{name}: {_type(hints[name])}`" for name in event.__struct_fields__)
        meaning = (event.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        once = "".join(f"<br>once `{form.topic}`" for form in event.earlier)
        parts.append(
            f"| `{topic}`{once} | {event.kind} | {event.machine} | {event.trigger or '-'} | {fields} | {meaning} |"
        )
    fields = ", ".join(f"`{name}`" for name in SpawnSpec.__struct_fields__)
    parts.append(f"\n`SpawnSpec` holds {fields}. No event holds a token; `fingerprint` is a hash.")
    return "\n".join(parts) + "\n"


def _type(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    for prefix in (
        "relaybroker.domain.reasons.",
        "relaybroker.domain.inputs.",
        "relaybroker.domain.events.",
        "relaybroker.config.fleet_file.",
        "relaybroker.config.chosen.",
        "typing.",
    ):
        text = text.replace(prefix, "")
    return text.replace("|", "\\|")


def reasons() -> str:
    """Every reason with its sentence."""
    parts = [
        "# Reasons\n",
        "Why a message was not typed, or why something waits, was refused or failed. The list is closed.\n",
        "| reason | what it means | what to do |\n|---|---|---|",
    ]
    parts += [f"| `{reason}` | {SENTENCES[reason]} | {REMEDIES[reason]} |" for reason in Reason]
    return "\n".join(parts) + "\n"


def views() -> str:
    """Every SQL view with its columns."""
    parts = [
        "# SQL views\n",
        (lookup.__doc__ or "").strip() + "\n",
        "```\nsqlite3 -readonly journal-NAME.sqlite \"SELECT name, seq, state, reason FROM v_deliveries WHERE state <> 'acked'\"\n```\n",
        "Read a copy, or open the file with `-readonly`; the broker may keep running.\n",
        "| view | columns |\n|---|---|",
    ]
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(
            "CREATE TABLE stored_events (originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB)"
        )
        for kind, name, statement in earlier_events.definitions():
            database.execute(statement)
            if kind == "view":
                columns = database.execute(f"SELECT * FROM {name}").description
                parts.append(f"| `{name}` | {', '.join(f'`{column[0]}`' for column in columns)} |")
    return "\n".join(parts) + "\n"


def environment_of_agents() -> str:
    """What is in the environment of an agent."""
    taken = [f"| {about} | {_named(names)} |" for about, names in agent_environment.INHERITED.items()]
    fixed = [f"| `{name}` | {f'`{value}`' if value else 'empty'} |" for name, value in agent_environment.SET.items()]
    added = f"If missing, the broker adds: `PATH` (`{agent_environment.DEFAULT_PATH}`), `LANG=C.UTF-8`."
    left = _named(agent_environment.PROBES_OF_THE_STARTER)
    parts = [
        "# The environment of an agent\n",
        (agent_environment.__doc__ or "").split("\n\n")[2] + "\n",
        agent_environment.PRECEDENCE.strip() + "\n",
        "## Taken over from the broker\n",
        "| about | variables |\n|---|---|",
        *taken,
        f"\n{added}\n",
        "## Set by the broker\n",
        "| variable | value |\n|---|---|",
        *fixed,
        "\n## Not taken over\n",
        f"Everything else. Among it: {left}.\n",
        agent_environment.HISTORY.strip(),
    ]
    return "\n".join(parts) + "\n"


def tools_of_programs() -> str:
    """How each program with a language model is given its agent's tools, or why it is not."""
    rows = []
    for one in harnesses.profiles().values():
        if one.hint == "none":
            continue
        if one.mcp is None:
            rows.append(f"| {one.name} | the command only: {one.no_mcp} | `relaybroker message reply` |")
        else:
            how = "options" if one.mcp.args else _named(tuple(one.mcp.env))
            rows.append(f"| {one.name} | {how} | `{one.mcp.tool.replace('{tool}', 'send_dm')}` |")
    return "\n".join((_PROGRAMS, *rows, _BY_HAND, *_by_hand())) + "\n"


def _by_hand() -> Iterator[str]:
    for one in harnesses.profiles().values():
        if one.by_hand is not None:
            entry = one.by_hand.entry.strip()
            kind = "json" if entry.startswith("{") else "toml"
            yield f"\n**{one.name}**, `{one.by_hand.file}` ({one.by_hand.seen}):\n\n```{kind}\n{entry}\n```"


_BY_HAND = """\

## Once, by hand

Programs that take MCP servers from their user's own file only have the tools as well once this stands there. It names variables and no
agent, so that it is good for every agent; outside of an agent's terminal it does nothing. The broker does not touch these files, and the
hint goes on naming the command, which every agent has. `relaybroker mcp-args --cli PROGRAM --agent-name NAME` prints it, and what other
programs are started with."""

_PROGRAMS = """\
# How programs get their agent's tools

No file is written, no option contains a token, and the user's own servers stay. A program that cannot accept tools under these
conditions does not get them; its agent uses the command
([ADR-0049](../ADR/0049-programs-get-their-tools-by-options-without-secrets.md)).

| program | how | what its model calls `send_dm` |
|---|---|---|"""


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def commands() -> str:
    """Every command with its help."""
    from relaybroker.cli import output  # noqa: PLC0415 - the pages are made rarely, the command tree imports much
    from relaybroker.cli.app import cli  # noqa: PLC0415 - as above

    parts = ["# Commands\n", f"{(output.__doc__ or '').partition('.')[2].rpartition(chr(10) * 2)[2].strip()}\n"]
    parts.append(
        "Commands respect `NO_COLOR`. `relaybroker completion SHELL` prints a completion script for commands, names and ids.\n"
    )

    def add(command: click.Command, words: list[str], parent: click.Context | None) -> None:
        width = {"terminal_width": 100, "max_content_width": 100}
        context = command.make_context(words[-1], [], parent=parent, resilient_parsing=True, **width)
        parts.append(f"{'#' * (len(words) + 1)} {' '.join(words)}\n\n```\n{command.get_help(context)}\n```\n")
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                subcommand = command.get_command(context, name)
                assert subcommand is not None
                add(subcommand, [*words, name], context)

    add(cli, ["relaybroker"], None)
    return "\n".join(parts)


def settings() -> str:
    """Every setting and where it is given, and the fleet."""
    parts = [
        "# Settings\n",
        _SETTINGS,
        "| setting | type | default | variable, flag | meaning |\n|---|---|---|---|---|",
    ]
    for name, field in Chosen.model_fields.items():
        places = [*variables_of(name), *([flag_of(name)] if flag_of(name) else [])]
        default = json.dumps(field.get_default(), default=lambda value: value.model_dump())
        shown = _type(field.annotation).replace("tuple[str, ...]", "list of texts")
        parts.append(
            f"| `{name}` | {shown} | `{default}` | {', '.join(f'`{place}`' for place in places)} | {field.description} |"
        )
    parts += [
        "\n## Retention\n",
        (Retention.__doc__ or "") + "\n",
        "| field of `[retention]` | default | meaning |\n|---|---|---|",
    ]
    parts += [
        f"| `{name}` | `{field.default}` | {field.description} |" for name, field in Retention.model_fields.items()
    ]
    parts += ["\n## Secrets\n", "Secrets are never in a file.\n", "| secret | variable |\n|---|---|"]
    parts += [f"| {name} | `{variable}` |" for name, variable in SECRETS.items()]
    parts += ["\n## Agents\n", _FLEET, "| field of `[agents.NAME]` | default | meaning |\n|---|---|---|"]
    for name, field in Agent.model_fields.items():
        default = "needed" if field.is_required() else f"`{json.dumps(field.get_default(call_default_factory=True))}`"
        parts.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(parts) + "\n"


_SETTINGS = """\
A flag overrides a variable, a variable overrides `relaybroker.toml`, and the file overrides the default. The file is the one named by
`--config` or `RELAYBROKER_CONFIG`, else the nearest one in the current directory or above (up to the home directory), else
`~/.config/relaybroker/relaybroker.toml`. `relaybroker config` shows every value and its source, and checks the file and the
environment. Separate list items in variables with commas. Unknown names are rejected, with the nearest name suggested.

```toml
# relaybroker.toml
name = "desk"
api_port = 7777
default_channels = ["general", "build"]

[agents.planner]
cli = "claude --model opus"
channels = ["general"]
task = "Plan the next release, and ask writer for texts."
env_from = ["ANTHROPIC_API_KEY"]

[agents.writer]
cli = "codex"
cwd = "docs"
```
"""
_FLEET = """\
`relaybroker up` starts the agents that are not running. `relaybroker apply` does the same on a running broker, restarts agents whose
entries changed, and stops agents that were removed from the file. Agents started by hand are left alone.
"""


def guarantees() -> str:
    """What is promised, which tests keep it, and what is not promised."""
    named = tests_by_id()
    parts = ["# Guarantees\n", "Each promise, with the tests that cite its id. `make test` runs them all.\n"]
    for subject, promises in GUARANTEES.items():
        parts.append(f"## {subject}\n\n| id | promise | kept by |\n|---|---|---|")
        parts += [
            f"| {promise.id} | {promise.promise} | {'<br>'.join(named.get(promise.id, []))} |" for promise in promises
        ]
        parts.append("")
    parts.append(f"## Not promised\n{NOT_PROMISED}")
    return "\n".join(parts)


@functools.cache
def tests_by_id() -> dict[str, list[str]]:
    """Guarantee -> the tests (`file::name`, or a whole file) whose docstrings name it."""
    ids = {promise.id for promises in GUARANTEES.values() for promise in promises}
    named: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        place, tree = path.relative_to(TESTS.parent).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            name = "" if isinstance(node, ast.Module) else node.name
            label = f"`{place}::{name}`" if name.startswith("test_") else f"`{place}`"
            for word in sorted(ids & set(_WORD.findall(ast.get_docstring(node) or ""))):
                if label not in (labels := named.setdefault(word, [])):
                    labels.append(label)
    return named


_WORD = re.compile(r"[A-Z][A-Z0-9]*(?:-[A-Z]+)?")


def agent_scope() -> str:
    """What an agent's token opens, and every tool."""
    parts = [
        "# What an agent may do with its own token\n",
        _SCOPE,
        "| route | an agent's |\n|---|---|",
        *(f"| `{route}` | {use} |" for route, use in AGENT_ROUTES.items()),
        "\nClosed to agents: " + ", ".join(f"`{route}`" for route in sorted(_closed())) + ".\n",
        "## Tools\n",
        _TOOLS,
        "| tool | arguments | changes | what it does |\n|---|---|---|---|",
    ]
    for tool in MODELS_TOOLS.values():
        schema = tool.listed()["inputSchema"]
        needed = schema.get("required", [])
        names = ", ".join(f"`{name}`{'' if name in needed else '?'}" for name in schema["properties"])
        parts.append(f"| `{tool.name}` | {names} | {tool.changes} | {tool.description} |")
    return "\n".join(parts) + "\n"


_SCOPE = """\
`RELAY_AGENT_TOKEN`, sent as `Authorization: Bearer` or `X-API-Key`, acts as that agent while the agent is registered here. A wrong,
former or foreign token gets 401; a closed route gets 403 `agent_scope`. A test tries every route with every kind of token.
"""
_TOOLS = """\
The tools are the same over MCP (`POST /mcp`) and over HTTP (`POST /api/agent/tools/{tool}`, arguments as the body). `adds once`:
repeating the call changes nothing more. `takes`: what is returned once is not returned again.
"""


def engine_authority() -> str:
    """Who may do what on the embedded engine."""
    parts = [
        "# Who may do what on the embedded engine\n",
        _AUTHORITY,
        "| route | workspace key | an agent's token reaches | scope of an observer's token |\n|---|---|---|---|",
    ]
    for route, rule in AUTHORITY.items():
        operator = (
            "only the webhook's own token"
            if rule.webhook
            else "yes"
            if rule.workspace
            else "403 `agent_token_required`"
            if rule.workspace_is_told
            else "401"
        )
        parts.append(f"| `{route}` | {operator} | {rule.agent.says if rule.agent else '401'} | {_scope(rule)} |")
    parts.append("\n| open to everyone on the machine | purpose |\n|---|---|")
    parts += [f"| `{route}` | {use} |" for route, use in OPEN.items()]
    parts.append("\n| known to SDKs and not built: 501 `not_implemented` | | why not |\n|---|---|---|")
    parts += [f"| `/v1/{part}` | {absent.what} | {absent.why} |" for part, absent in ABSENT.items()]
    return "\n".join(parts) + "\n"


def _scope(rule: Rule) -> str:
    return "401" if rule.observer is None else f"`{rule.observer.scope}`" if rule.observer.scope else "any"


_AUTHORITY = """\
A node token opens the node socket, `/v1/node/ws`, and posts to `POST /v1/channels/{name}/messages`, as an agent that is on the node or
under a name that no agent has. The workspace key opens the observer socket, `/v1/ws`, and so does an
observer's token with the scope `stream:read`; it is shown what its other scopes name. Observers change nothing: `dms:read` is needed for
whatever was said in a conversation, `threads:read` for replies, whichever route asks. Anything in
another workspace, and any message that the caller may not read, answers 404 as if it did not exist. Other requests beyond the
caller's reach answer 403. A page of another origin gets 403 on every route. A test tries every route with every kind of token.
"""


def _closed() -> set[str]:
    return {*(route.key for route in ROUTES), *(f"{method} {path}" for method, path in NOT_BUILT)} - set(AGENT_ROUTES)


def openapi() -> str:
    """The OpenAPI document of the local API."""
    return json.dumps(document(), indent=1) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "machines.md": machines,
    "events.md": events,
    "reasons.md": reasons,
    "commands.md": commands,
    "settings.md": settings,
    "views.md": views,
    "agent-environment.md": environment_of_agents,
    "guarantees.md": guarantees,
    "agent-scope.md": agent_scope,
    "agent-tools.md": tools_of_programs,
    "engine-authority.md": engine_authority,
    "openapi.json": openapi,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` say where they differ; the exit status."""
    status = 0
    DOCS.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        path, text = DOCS / name, (_NOTE if name.endswith(".md") else "") + make()
        if arguments == ["--check"]:
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            if before != text:
                status = 1
                lines = difflib.unified_diff(
                    before.splitlines(), text.splitlines(), f"docs/{name}", "the code", lineterm=""
                )
                sys.stdout.write("\n".join(list(lines)[:60]) + "\nrun: python -m relaybroker.reference.pages\n")
        else:
            path.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

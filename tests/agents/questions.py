"""What each program asks, before its composer shows and in a session: how it comes up, and what is then on its screen.

In a prompt, PROJECT stands for the folder of the project and PROBE for a file elsewhere that must not come into being.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.agents import homes


class Dialog(NamedTuple):
    """Something that a program asks in a session."""

    prompt: str
    """What brings it up; several prompts are separated by form feeds, a command begins with `/` and is typed."""
    shows: str
    """What is then on the screen, and in no prompt."""
    kind: str
    setup: Callable[[homes.Home], homes.Home] | None = None
    deny: str = "\x1b"
    """Keys with which a person refuses."""
    before: str = ""
    """Keys that a person has to press first."""


START: dict[tuple[str, str], tuple[str, ...]] = {
    ("claude", "offline"): ("Unable to connect",),
    ("claude", "trust"): ("I trust this folder",),
    ("claude", "api-key"): ("Do you want to use this API key?",),
    ("claude", "bypass"): ("Yes, I accept",),
    ("claude", "mcp"): ("Use this MCP server",),
    ("claude", "auto-mode"): ("No, keep manual mode",),
    ("codex", "login"): ("Sign in with ChatGPT",),
    ("codex", "trust"): ("Trust and continue",),
    ("codex", "update"): ("Skip until next version",),
    ("gemini", "login"): ("Vertex AI",),
    ("gemini", "trust"): ("Don't trust",),
    ("opencode", "onboarding"): ("Build",),
    ("qwen", "login"): ("Custom Provider",),
    ("copilot", "trust"): ("trust",),
    ("copilot", "login"): ("login",),
    ("pi", "login"): ("model",),
    ("cline", "login"): ("Sign in with",),
    ("cline", "promotion"): ("any other key to close",),
    ("aider", "gitignore"): ("(Y)es/(N)o",),
    ("aider", "no-git"): ("(Y)es/(N)o",),
}  # fmt: skip


def _arguments(*words: str) -> Callable[[homes.Home], homes.Home]:
    return lambda home: home._replace(argv=[*home.argv, *words])


def _call(tool: str, **arguments: Any) -> str:
    """The prompt for a call; what the dialog will show is not readable in it."""
    return f"CALLTOOL {tool} {unreadable(json.dumps(arguments))}"


def unreadable(text: str) -> str:
    return text.replace("Postgre", "\\u0050ostgre").replace("Tell me", "\\u0054ell me")


_CHOICES = [
    {"label": "PostgreSQL", "description": "What the others use"}, {"label": "SQLite", "description": "One file"},
]  # fmt: skip
_QUESTION = {"question": "Which database should the service use?", "header": "Database"}
_TOUCH = "RUNSHELL touch PROBE"
_NEW_FILE = {"file_path": "PROJECT/new.txt", "content": "hello\n"}

_PLAN_MODE = "\x1b[Z"
_RUN_THIS = "Run this:\n\n```bash\ntouch PROBE\n```\n"

DIALOGS: dict[str, dict[str, Dialog]] = {
    "claude": {
        "permission": Dialog(_TOUCH, "Do you want to proceed?", "permission"),
        "write-approval": Dialog(_call("Write", **_NEW_FILE), "Do you want to", "permission"),
        "ask-user-question": Dialog(
            _call("AskUserQuestion", questions=[_QUESTION | {"multiSelect": False, "options": _CHOICES}]), "PostgreSQL",
            "question",
        ),
        "exit-plan": Dialog(
            'CALLTOOL ToolSearch {"query": "select:ExitPlanMode"}\f'
            + _call("ExitPlanMode", plan="1. Drop table users\n2. Create it again"), "Exit plan mode?", "plan",
            _arguments("--permission-mode", "plan"),
        ),
        "login": Dialog("/login", "Select login method", "login"),
        "theme": Dialog("/theme", "Dark mode", "menu"),
        "model": Dialog("/model", "Select model", "menu"),
        "config": Dialog("/config", "Auto-compact", "menu"),
    },
    "codex": {
        "permission": Dialog(
            _call("exec_command", cmd="touch PROBE", sandbox_permissions="require_escalated",
                  justification="It is needed"), "Would you like to", "permission",
        ),
        "question": Dialog(
            _call("request_user_input", questions=[_QUESTION | {"id": "database", "options": _CHOICES}]), "PostgreSQL",
            "question", before=_PLAN_MODE,
        ),
    },
    "gemini": {
        "permission": Dialog(_TOUCH, "Allow once", "permission"),
        "write-approval": Dialog(_call("write_file", **_NEW_FILE), "Allow once", "permission"),
        "ask-user": Dialog(
            _call("ask_user", questions=[_QUESTION | {"type": "choice", "options": _CHOICES}]), "PostgreSQL", "question"
        ),
        "ask-user-text": Dialog(
            _call("ask_user", questions=[_QUESTION | {"type": "text"}]), "Which database", "question"
        ),
    },
    "opencode": {
        "permission": Dialog(_TOUCH, "Permission required", "permission"),
        "question": Dialog(
            _call("question", questions=[_QUESTION | {"options": _CHOICES}]), "PostgreSQL", "question"
        ),
    },
    "qwen": {
        "permission": Dialog(_TOUCH, "Yes, allow once", "permission"),
        "write-approval": Dialog(_call("write_file", **_NEW_FILE), "Yes, allow once", "permission"),
    },
    "copilot": {
        "permission": Dialog(_TOUCH, "Do you want to", "permission"),
        "write-approval": Dialog(_call("create", path="PROJECT/new.txt", file_text="hello\n"), "Do you want", "permission"),
        "question": Dialog(
            _call("ask_user", message="Which database should the service use?", requestedSchema={
                "properties": {"database": {"type": "string", "enum": ["PostgreSQL", "SQLite"]}}, "required": ["database"],
            }), "PostgreSQL", "question",
        ),
    },
    "pi": {},
    "cline": {
        "permission": Dialog(_TOUCH, "touch", "permission", _arguments("--auto-approve", "false", "-i")),
        "question": Dialog(
            _call("ask_question", question="Which database should the service use?", options=["PostgreSQL", "SQLite"]),
            "PostgreSQL", "question",
        ),
    },
    "aider": {
        "permission": Dialog(
            f"SAY {json.dumps(_RUN_THIS)}", "(Y)es/(N)o", "permission", deny="n\r"
        ),
        "add-file": Dialog('SAY "You may want to look at README.md for that."', "(Y)es/(N)o", "question", deny="n\r"),
    },
}  # fmt: skip

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.token_cache import TokenCache
from adapters.vault import Vault
from domain.effects import StartProgram
from relaybroker.harness import harness_of
from relaybroker.launch import Launcher, scrubbed
from relaybroker.settings import SECRET_VARIABLES


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    cache = TokenCache(tmp_path / "n", node_id="n", workspace_id="w", base_url="u")
    kept = Vault(workspace_key="rk_live_k", agents_directory=tmp_path / "run", node_cache=cache, own_cache=cache)
    kept.keep("agent:5", "at_live_five")
    return kept


def launcher(vault: Vault, environment: dict[str, str]) -> Launcher:
    return Launcher(
        environment,
        cwd=Path("/project"),
        base_url="http://e",
        workspace_id="ws_1",
        worker_logs=Path("/logs"),
        vault=vault,
    )


def wish(**fields: Any) -> StartProgram:
    defaults: dict[str, Any] = {
        "session_id": "ws_1",
        "name": "w1",
        "argv": ("bash",),
        "cwd": "",
        "env": {},
        "profile": "shell",
        "agent_id": "5",
        "rows": 24,
        "cols": 80,
        "idle_threshold_s": 30.0,
    }
    return StartProgram(**(defaults | fields))


def test_an_agent_knows_itself_and_has_only_its_own_token(vault: Vault) -> None:
    started = launcher(vault, {"PATH": "/bin", "RELAY_AGENT_TOKEN": "at_live_other"}).start(wish())
    assert started.env["RELAY_AGENT_NAME"] == "w1"
    assert started.env["RELAY_AGENT_TOKEN"] == "at_live_five"
    assert started.env["RELAY_AGENT_TYPE"] == "agent"
    assert started.env["RELAY_STRICT_AGENT_NAME"] == "1"
    assert started.env["RELAY_BASE_URL"] == "http://e"
    assert started.env["RELAY_WORKSPACE_ID"] == "ws_1"
    assert (started.cwd, started.log_path) == ("/project", "/logs/w1.log")


def test_no_secret_of_the_broker_is_inherited() -> None:
    """local-api.md 11.1."""
    removed = [
        *SECRET_VARIABLES,
        "RELAY_AGENT_TOKEN",
        "RELAY_AGENT_NAME",
        "CLAUDECODE",
        "AGENT_RELAY_APP_SERVER_AUTH_PASSWORD",
        "AGENT_RELAY_RESULT_TOKEN",
    ]
    assert scrubbed(dict.fromkeys(removed, "x") | {"PATH": "/bin"}) == {"PATH": "/bin"}


def test_the_environment_of_a_spawn_cannot_bring_secrets_or_another_identity(vault: Vault) -> None:
    env = {"RELAY_API_KEY": "rk_live_x", "RELAY_AGENT_NAME": "boss", "RELAY_AGENT_TYPE": "human", "EDITOR": "vi"}
    started = launcher(vault, {}).start(wish(env=env))
    assert "RELAY_API_KEY" not in started.env
    assert (started.env["RELAY_AGENT_NAME"], started.env["RELAY_AGENT_TYPE"]) == ("w1", "agent")
    assert started.env["EDITOR"] == "vi"


def test_a_program_without_relay_prompt_has_no_identity(vault: Vault) -> None:
    started = launcher(vault, {}).start(wish(agent_id=""))
    assert not {"RELAY_AGENT_NAME", "RELAY_AGENT_TOKEN"} & started.env.keys()


@pytest.mark.parametrize(
    ("given", "expected"), [("", "xterm-256color"), ("dumb", "xterm-256color"), ("vt100", "vt100")]
)
def test_a_terminal_type_that_cannot_move_the_cursor_is_replaced(vault: Vault, given: str, expected: str) -> None:
    assert launcher(vault, {"TERM": given}).start(wish()).env["TERM"] == expected


def test_a_known_program_is_named_as_origin(vault: Vault) -> None:
    started = launcher(vault, {}).start(wish(argv=("/opt/bin/claude", "--model", "x")))
    assert started.env["AGENT_RELAY_ORIGIN_ACTOR"] == "agent-relay-cli/agent/claude-code"
    assert "AGENT_RELAY_ORIGIN_ACTOR" not in launcher(vault, {}).start(wish()).env


def test_a_directory_of_its_own_is_kept(vault: Vault) -> None:
    started = launcher(vault, {"PWD": "/elsewhere"}).start(wish(cwd="/work"))
    assert (started.cwd, started.env["PWD"]) == ("/work", "/work")


def test_a_token_is_never_in_the_arguments(vault: Vault) -> None:
    assert "at_live_five" not in repr(launcher(vault, {}).start(wish()).argv)


def test_programs_with_a_language_model_take_a_model_and_shells_do_not() -> None:
    assert harness_of(("claude",)).model_flag == "--model"
    assert harness_of(("bash",)).model_flag == ""
    assert harness_of(("bash",)).comment_prefix == "# "
    assert harness_of(("claude",)) == harness_of(("claude",))

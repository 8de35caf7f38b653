from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relaybroker.adapters.spawn_environments import SpawnEnvironments
from relaybroker.adapters.token_cache import TokenCache
from relaybroker.adapters.vault import Vault
from relaybroker.agents import agent_environment
from relaybroker.agents.harness import harness_of
from relaybroker.agents.launch import Launcher, VariablesLostError, scrubbed
from relaybroker.domain.command_line import SECRET_VARIABLES
from relaybroker.domain.effects import StartProgram


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    cache = TokenCache(tmp_path / "n", node_id="n", workspace_id="w", base_url="u")
    kept = Vault(workspace_key="rk_live_k", agents_directory=tmp_path / "run", node_cache=cache, own_cache=cache)
    kept.keep("agent:5", "at_live_five")
    return kept


def launcher(
    vault: Vault, environment: dict[str, str], *, named: tuple[str, ...] = (), kept: Any = None, approved: bool = False
) -> Launcher:
    return Launcher(
        environment,
        named=named,
        cwd=Path("/project"),
        base_url="http://e",
        api_url="http://127.0.0.1:7",
        workspace_id="ws_1",
        worker_logs=Path("/logs"),
        vault=vault,
        environments=kept or SpawnEnvironments(Path("/nowhere")),
        own_files=Path("/run/own-files"),
        commands=Path("/run/bin"),
        tools_approved=approved,
    )


def wish(**fields: Any) -> StartProgram:
    defaults: dict[str, Any] = {
        "session_id": "ws_1",
        "name": "w1",
        "argv": ("bash",),
        "cwd": "",
        "env": {},
        "env_ref": "",
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
    assert started.env["RELAYBROKER_URL"] == "http://127.0.0.1:7"
    assert started.env["RELAY_BASE_URL"] == "http://e"
    assert started.env["RELAY_WORKSPACE_ID"] == "ws_1"
    assert (started.cwd, started.log_path) == ("/project", "/logs/w1.log")


BROKER = {
    "PATH": "/opt/bin:/bin",
    "HOME": "/home/u",
    "LANG": "de_DE.UTF-8",
    "ANTHROPIC_API_KEY": "sk-1",
    "HTTPS_PROXY": "http://proxy:3128",
    "NODE_EXTRA_CA_CERTS": "/ca.pem",
    "CLAUDE_CODE_USE_BEDROCK": "1",
    "MY_TEAM_TOKEN": "t",
}
"""What a person has in the shell that starts the broker."""
STALE = {
    "CI": "true",
    "NO_COLOR": "1",
    "FORCE_COLOR": "0",
    "TMUX": "/tmp/tmux-0/default,1,0",
    "TMUX_PANE": "%7",
    "STY": "1.x",
    "COLUMNS": "211",
    "LINES": "7",
    "TERM": "xterm-kitty",
    "TERMINFO": "/kitty",
    "TERM_PROGRAM": "iTerm.app",
    "LC_TERMINAL": "iTerm2",
    "WINDOWID": "42",
    "CLAUDECODE": "1",
    "CLAUDE_CODE_ENTRYPOINT": "cli",
    "CLAUDE_CODE_SSE_PORT": "12345",
    "CLAUDE_CODE_SESSION_ID": "0000",
    "CODEX_SANDBOX": "seatbelt",
    "CODEX_SESSION_ID": "0000",
    "GEMINI_CLI": "1",
    "OPENCODE": "1",
    "HISTFILE": "/home/u/.bash_history",
    "PROMPT_COMMAND": "history -a",
    "BASH_ENV": "/x",
    "ENV": "/x",
    "NODE_OPTIONS": "--inspect",
    "PYTHONPATH": "/x",
    "PYTHONSTARTUP": "/x",
    "GIT_DIR": "/x",
    "PAGER": "cat",
    "LD_PRELOAD": "/x",
}
"""What says where the broker was started, or changes programs."""


def test_an_agent_gets_a_terminals_environment_and_not_that_of_whoever_started_the_broker(vault: Vault) -> None:
    """F116; ADR-0036."""
    env = launcher(vault, BROKER | STALE).start(wish()).env
    taken = BROKER | {"PATH": f"{BROKER['PATH']}:/run/bin"}
    assert {name: env[name] for name in taken if name != "MY_TEAM_TOKEN"} == {
        name: value for name, value in taken.items() if name != "MY_TEAM_TOKEN"
    }
    assert "MY_TEAM_TOKEN" not in env
    set_by_the_broker = agent_environment.SET.keys()
    assert STALE.keys() & env.keys() == STALE.keys() & set_by_the_broker == {"TERM", "HISTFILE"}
    assert (env["TERM"], env["COLORTERM"], env["HISTFILE"]) == ("xterm-256color", "truecolor", "")


def test_the_operator_names_what_agents_take_over_besides(vault: Vault) -> None:
    named = ("MY_*", "CI", "RELAY_*", "TERM")
    broker = BROKER | STALE | {"RELAY_API_KEY": "rk_live_x", "RELAY_AGENT_TOKEN": "at_live_other"}
    env = launcher(vault, broker, named=named).start(wish()).env
    assert (env["MY_TEAM_TOKEN"], env["CI"], env["TERM"]) == ("t", "true", "xterm-256color")
    assert "RELAY_API_KEY" not in env
    assert env["RELAY_AGENT_TOKEN"] == "at_live_five"


def test_programs_of_an_agent_find_only_each_other_and_can_be_found(vault: Vault) -> None:
    env = launcher(vault, BROKER | {"CLINE_HUB_DISCOVERY_PATH": "/shared"}, named=("CLINE_*",)).start(wish()).env
    assert env["CLINE_HUB_DISCOVERY_PATH"] == "/run/own-files/ws_1/cline-hub.json"
    assert env["RELAYBROKER_SESSION"] == "ws_1"


def test_an_agent_has_a_path_and_a_locale_where_the_broker_has_none(vault: Vault) -> None:
    env = launcher(vault, {}).start(wish()).env
    assert (env["PATH"], env["LANG"]) == (f"{agent_environment.DEFAULT_PATH}:/run/bin", "C.UTF-8")
    assert "LANG" not in launcher(vault, {"LC_ALL": "C"}).start(wish()).env


@pytest.mark.parametrize("name", agent_environment.PROBES_OF_THE_STARTER)
def test_what_the_page_calls_not_inherited_is_not(name: str) -> None:
    assert name not in agent_environment.inherited({name: "x"})


def test_no_secret_of_the_broker_is_inherited_by_any_child() -> None:
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
    assert agent_environment.inherited(dict.fromkeys(removed, "x") | {"PATH": "/bin", "LANG": "C"}, ["*"]) == {
        "PATH": "/bin",
        "LANG": "C",
    }


def test_the_environment_of_a_spawn_cannot_bring_secrets_or_another_identity(vault: Vault) -> None:
    env = {"RELAY_API_KEY": "rk_live_x", "RELAY_AGENT_NAME": "boss", "RELAY_AGENT_TYPE": "human", "EDITOR": "vi"}
    started = launcher(vault, {}).start(wish(env=env))
    assert "RELAY_API_KEY" not in started.env
    assert (started.env["RELAY_AGENT_NAME"], started.env["RELAY_AGENT_TYPE"]) == ("w1", "agent")
    assert started.env["EDITOR"] == "vi"


def test_what_a_spawn_brought_along_is_there_and_is_stronger_than_all_but_identity(
    vault: Vault, tmp_path: Path
) -> None:
    kept = SpawnEnvironments(tmp_path / "environments")
    reference = kept.keep({"MY_KEY": "k-1", "CI": "1", "PATH": "/own", "COLORTERM": "", "RELAY_AGENT_TYPE": "human"})
    env = launcher(vault, BROKER | STALE, kept=kept).start(wish(env_ref=reference)).env
    assert (env["MY_KEY"], env["CI"], env["PATH"], env["COLORTERM"]) == ("k-1", "1", "/own:/run/bin", "")
    assert env["RELAY_AGENT_TYPE"] == "agent"


def test_a_program_whose_variables_are_lost_is_not_started(vault: Vault) -> None:
    with pytest.raises(VariablesLostError, match="w1"):
        launcher(vault, BROKER).start(wish(env_ref="env_0000000000000000"))


def test_a_wrapped_program_is_named_as_origin_when_the_caller_says_what_it_is(vault: Vault) -> None:
    started = launcher(vault, {}).start(wish(argv=("env", "X=1", "claude"), profile="claude"))
    assert started.env["AGENT_RELAY_ORIGIN_ACTOR"] == "agent-relay-cli/agent/claude-code"


def test_a_program_without_relay_prompt_has_no_identity(vault: Vault) -> None:
    started = launcher(vault, {}).start(wish(agent_id=""))
    assert not {"RELAY_AGENT_NAME", "RELAY_AGENT_TOKEN"} & started.env.keys()


def test_a_known_program_is_named_as_origin(vault: Vault) -> None:
    started = launcher(vault, {}).start(wish(argv=("/opt/bin/claude", "--model", "x")))
    assert started.env["AGENT_RELAY_ORIGIN_ACTOR"] == "agent-relay-cli/agent/claude-code"
    assert "AGENT_RELAY_ORIGIN_ACTOR" not in launcher(vault, {}).start(wish()).env


def test_a_directory_of_its_own_is_kept(vault: Vault) -> None:
    started = launcher(vault, {"PWD": "/elsewhere"}).start(wish(cwd="/work"))
    assert (started.cwd, started.env["PWD"]) == ("/work", "/work")


def test_an_empty_path_does_not_become_the_current_directory(vault: Vault) -> None:
    assert launcher(vault, {"PATH": ""}).start(wish()).env["PATH"] == "/run/bin"


@pytest.mark.parametrize("profile", ["claude", "codex"])
def test_a_program_gets_its_tools_unless_it_is_to_know_nothing_of_us(vault: Vault, profile: str) -> None:
    """skip_relay_prompt: no identity, no tools, nothing in PATH."""
    for approved in (False, True):
        made = launcher(vault, {"PATH": "/bin"}, approved=approved)
        started = made.start(wish(argv=(profile, "resume"), profile=profile))
        assert started.argv[0] == profile
        assert started.argv[-1] == "resume"
        assert any("agent-relay" in word for word in started.argv)
        assert not any("at_live" in word for word in started.argv)
        assert started.env["RELAY_SKIP_BOOTSTRAP"] == "1"
        skipped = made.start(wish(argv=(profile, "resume"), profile=profile, agent_id=""))
        assert skipped.argv == (profile, "resume")
        assert not {"RELAYBROKER_URL", "RELAY_AGENT_TOKEN", "RELAY_SKIP_BOOTSTRAP"} & skipped.env.keys()
        assert skipped.env["PATH"] == "/bin"


def test_a_token_is_never_in_the_arguments(vault: Vault) -> None:
    assert "at_live_five" not in repr(launcher(vault, {}).start(wish()).argv)


def test_programs_with_a_language_model_take_a_model_and_shells_do_not() -> None:
    assert harness_of(("claude",)).model_flag == "--model"
    assert harness_of(("bash",)).model_flag == ""
    assert harness_of(("bash",)).comment_prefix == ""
    assert harness_of(("claude",)) == harness_of(("claude",))


def test_a_program_without_terminal_is_told_of_its_tools_by_its_door(vault: Vault) -> None:
    """No options and no variables of its profile: the door passes the server with the session."""
    made = launcher(vault, {"PATH": "/bin"})
    started = made.start(wish(argv=("opencode", "acp"), profile="opencode", doors=("acp",), resumes="/notes"))
    assert (started.argv, started.tools, started.resumes) == (
        ("opencode", "acp"),
        ("/run/bin/relaybroker", "mcp"),
        "/notes",
    )
    assert "OPENCODE_CONFIG_CONTENT" not in started.env
    assert made.preflight(wish(argv=("opencode", "acp"), profile="opencode", doors=("acp",)), started) is not None


def test_a_program_in_a_terminal_is_told_of_its_tools_as_its_profile_says(vault: Vault) -> None:
    started = launcher(vault, {"PATH": "/bin"}).start(wish(argv=("opencode",), profile="opencode"))
    assert started.tools == ()
    assert "OPENCODE_CONFIG_CONTENT" in started.env

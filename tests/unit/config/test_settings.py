from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relaybroker.config.settings import SECRET_VARIABLES, Flags, Settings, SettingsError, take_settings

CWD = Path("/home/u/project")
KEY = "rk_live_" + "a" * 32


def take(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    return take_settings(Flags(**flags), environ if environ is not None else {}, CWD)


def test_up_persists_in_the_project_and_init_does_not() -> None:
    assert take(command="up").state_dir == CWD / ".agentworkforce" / "relay"
    assert take(command="up").persist
    assert take(command="init").state_dir is None
    assert not take(command="init").persist
    assert take(command="init", persist=True).state_dir == CWD / ".agentworkforce" / "relay"


def test_a_state_directory_without_persist_keeps_files_and_the_lease() -> None:
    settings = take(command="init", state_dir="there")
    assert settings.state_dir == CWD / "there"
    assert not settings.persist


@pytest.mark.parametrize(
    ("flags", "environ", "name"),
    [
        ({"instance_name": "a", "name": "b"}, {"AGENT_RELAY_BROKER_NAME": "c"}, "a"),
        ({"instance_name": " ", "name": "b"}, {"AGENT_RELAY_BROKER_NAME": "c"}, "b"),
        ({}, {"AGENT_RELAY_BROKER_NAME": " c "}, "c"),
        ({}, {}, "project"),
    ],
)
def test_the_instance_name_has_one_order(flags: dict[str, str], environ: dict[str, str], name: str) -> None:
    assert take(environ, **flags).instance_name == name


def test_a_nameless_directory_gives_a_name_all_the_same() -> None:
    assert take_settings(Flags(), {}, Path("/")).instance_name == "project"


def test_node_names_are_only_those_that_the_operator_gave() -> None:
    assert take(name="b", instance_name="a").node_names == ("b", "a")
    assert take({"AGENT_RELAY_BROKER_NAME": "c"}).node_names == ()


# --- engine -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, None),
        ({"RELAY_BASE_URL": "http://e:1/"}, "http://e:1"),
        ({"RELAYCAST_BASE_URL": " http://c ", "RELAY_BASE_URL": "http://e"}, "http://c"),
        ({"RELAYCAST_BASE_URL": "", "RELAY_BASE_URL": "http://e"}, None),
        ({"RELAY_WORKSPACE_KEY": KEY}, "https://cast.agentrelay.com"),
        ({"RELAY_NODE_TOKEN": "nt_live_x"}, "https://cast.agentrelay.com"),
        ({"RELAYCAST_BASE_URL": "", "RELAY_API_KEY": KEY}, "https://cast.agentrelay.com"),
    ],
)
def test_the_first_address_that_is_set_decides(environ: dict[str, str], url: str | None) -> None:
    assert take(environ).engine_url == url


def test_an_address_that_is_not_http_is_refused() -> None:
    with pytest.raises(SettingsError, match="http://"):
        take({"RELAY_BASE_URL": "cast.agentrelay.com"})


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_leave_the_environment_as_they_are_read() -> None:
    environ = dict.fromkeys(SECRET_VARIABLES, "") | {
        "RELAY_BROKER_API_KEY": " br_x ",
        "RELAY_WORKSPACE_KEY": KEY,
        "RELAY_NODE_TOKEN": " nt_live_x ",
        "PATH": "/bin",
    }
    settings = take(environ)
    assert environ == {"PATH": "/bin"}
    assert settings.api_key.get_secret_value() == "br_x"
    assert settings.node_token.get_secret_value() == "nt_live_x"


def test_no_secret_is_in_a_repr() -> None:
    """I7."""
    settings = take({"RELAY_BROKER_API_KEY": "br_x1", "RELAY_WORKSPACE_KEY": KEY, "RELAY_NODE_TOKEN": "nt_live_x1"})
    for secret in ("br_x1", KEY, "nt_live_x1"):
        assert secret not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("flags", "environ", "key", "explicit"),
    [
        ({"workspace_key": KEY}, {"AGENT_RELAY_WORKSPACE_KEY": "rk_live_2"}, KEY, True),
        ({}, {"AGENT_RELAY_WORKSPACE_KEY": KEY, "RELAY_WORKSPACE_KEY": "rk_live_2"}, KEY, True),
        ({}, {"RELAY_WORKSPACE_KEY": KEY, "RELAY_API_KEY": "rk_live_2"}, KEY, True),
        ({}, {"RELAY_API_KEY": KEY}, KEY, False),
        ({}, {}, "", False),
    ],
)
def test_the_workspace_key_has_one_order(
    flags: dict[str, str], environ: dict[str, str], key: str, explicit: bool
) -> None:
    settings = take(environ, **flags)
    assert (settings.workspace_key.get_secret_value(), settings.workspace_key_is_explicit) == (key, explicit)


def test_an_explicit_key_of_another_kind_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError, match="starts with rk_") as refused:
        take({"RELAY_WORKSPACE_KEY": "at_live_secret"})
    assert "at_live_secret" not in str(refused.value)


@pytest.mark.parametrize(
    "listed",
    [
        [{"workspace_id": "ws_1", "api_key": "rk_1"}, {"workspace_alias": "main", "api_key": KEY}],
        {"memberships": [{"api_key": "rk_1"}, {"workspace_alias": "main", "api_key": KEY}]},
        {"workspace_alias": "main", "api_key": KEY},
    ],
)
def test_memberships_beat_single_keys(listed: object) -> None:
    settings = take(
        {"RELAY_WORKSPACES_JSON": json.dumps(listed), "RELAY_DEFAULT_WORKSPACE": "main", "RELAY_API_KEY": "rk_x"}
    )
    assert settings.workspace_key.get_secret_value() == KEY


@pytest.mark.parametrize("listed", ["{", "[]", '"rk_live_secret"', '[{"api_key":5}]'])
def test_memberships_of_another_shape_are_refused_without_being_shown(listed: str) -> None:
    with pytest.raises(SettingsError, match="RELAY_WORKSPACES_JSON") as refused:
        take({"RELAY_WORKSPACES_JSON": listed})
    assert "rk_live_secret" not in str(refused.value)


def test_a_default_workspace_that_is_not_listed_is_refused() -> None:
    with pytest.raises(SettingsError, match="RELAY_DEFAULT_WORKSPACE=other"):
        take({"RELAY_WORKSPACES_JSON": json.dumps([{"api_key": KEY}]), "RELAY_DEFAULT_WORKSPACE": "other"})


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_a_broker_without_engine_is_refused() -> None:
    with pytest.raises(SettingsError, match="AGENT_RELAY_DISABLE_RELAYCAST is no longer supported"):
        take({"AGENT_RELAY_DISABLE_RELAYCAST": ""})


def test_lists_are_split_and_trimmed() -> None:
    settings = take({"RELAYBROKER_CAPABILITIES": " claude, spawn:codex ,", "RELAYBROKER_ALLOWED_HOSTS": "a, b"})
    assert settings.capabilities == ("spawn:claude", "spawn:codex")
    assert settings.allowed_hosts == ("a", "b")
    assert settings.default_channels == ("general",)
    assert take({"RELAY_DEFAULT_CHANNELS": "x,y"}, channels="z").default_channels == ("x", "y")
    assert take(channels="z").default_channels == ("z",)


@pytest.mark.parametrize("environ", [{"RELAYBROKER_IN_DOUBT": "perhaps"}, {"RELAYBROKER_CAPABILITIES": "spawn:"}])
def test_a_choice_that_does_not_exist_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        take(environ)


@pytest.mark.parametrize(("text", "on"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_switches_are_read(text: str, on: bool) -> None:
    assert take({"RELAYBROKER_REMOTE_ARGS": text}).remote_args is on
    assert take({"AGENT_RELAY_STARTUP_DEBUG": text}).startup_debug is on


def test_agents_here_talk_without_the_engine_unless_the_operator_says_no() -> None:
    """LOCAL-FIRST, ADR-0090."""
    assert take().local_first
    assert not take({"RELAYBROKER_LOCAL_FIRST": "false"}).local_first


def test_init_offers_the_agent_programs_that_it_finds_unless_the_operator_says_otherwise(tmp_path: Path) -> None:
    for name in ("claude", "codex", "bash", "codex-helper"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    here = {"PATH": str(tmp_path)}
    assert take(here, command="init").capabilities == ("spawn:claude", "spawn:codex")
    assert take(here, command="up").capabilities == ()
    assert take(here | {"RELAYBROKER_CAPABILITIES": "codex"}, command="init").capabilities == ("spawn:codex",)
    assert take(here | {"RELAYBROKER_CAPABILITIES": "none"}, command="init").capabilities == ()
    assert take({"PATH": str(tmp_path / "empty")}, command="init").capabilities == ()


def test_what_agents_may_is_one_of_two_words() -> None:
    assert take().agent_may == ()
    assert take({"RELAYBROKER_AGENT_MAY": "spawn, release"}).agent_may == ("spawn", "release")
    with pytest.raises(SettingsError, match="RELAYBROKER_AGENT_MAY: takes spawn, release, not 'fly'"):
        take({"RELAYBROKER_AGENT_MAY": "fly"})


def test_another_mcp_server_is_a_command_of_words() -> None:
    assert take().mcp_command == ()
    assert take({"AGENT_RELAY_MCP_COMMAND": "npx -y  tools"}).mcp_command == ("npx", "-y", "tools")


def test_profiles_are_of_the_directory_that_is_named_else_of_the_users_own(tmp_path: Path) -> None:
    own, named = tmp_path / ".config" / "relaybroker" / "harnesses", tmp_path / "named"
    environ = {"HOME": str(tmp_path)}
    assert take(dict(environ)).harnesses == {}
    for folder in (own, named):
        folder.mkdir(parents=True)
        (folder / "a.toml").write_text(f"name = '{folder.name}'")
    assert list(take(dict(environ)).harnesses) == [str(own / "a.toml")]
    assert list(take(dict(environ), harnesses=named).harnesses) == [str(named / "a.toml")]
    assert list(take(environ | {"RELAYBROKER_HARNESSES": str(named)}).harnesses) == [str(named / "a.toml")]
    (tmp_path / "relaybroker.toml").write_text("harnesses = 'named'")
    config = tmp_path / "relaybroker.toml"
    assert list(take(dict(environ), config=config).harnesses) == [str(named / "a.toml")]
    (named / "a.toml").write_text("nam = 'x'")
    with pytest.raises(SettingsError, match=r"a\.toml: nam: is no key of a profile; nearest: name"):
        take(dict(environ), config=config)


def test_a_program_of_the_users_own_is_offered_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("name = 'mine'\ncommands = ['mine']\nhint = 'line'")
    (tmp_path / "mine").touch(0o755)
    assert take({"PATH": str(tmp_path)}, command="init", harnesses=tmp_path).capabilities == ("spawn:mine",)

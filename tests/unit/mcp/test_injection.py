"""How programs are given their tools when they are started."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib

import pytest

from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.agents.harness import harness_of
from relaybroker.mcp.command import write_command
from relaybroker.mcp.injection import tools_of, with_tools, with_variables

URL = "http://127.0.0.1:7777"
WITH = [one for one in harnesses.profiles().values() if one.mcp is not None]


def started(*argv, approved=False):
    return with_tools(harnesses.profile_for(argv), argv, url=URL, approved=approved)


def test_claude_reads_address_and_token_from_its_own_environment():
    program, option, *rest = started("claude", "--model", "opus")
    assert (program, rest) == ("claude", ["--model", "opus"])
    server = json.loads(option.removeprefix("--mcp-config="))["mcpServers"]["agent-relay"]
    assert server == {
        "type": "http",
        "url": "${RELAYBROKER_URL}/mcp",
        "headers": {"Authorization": "Bearer ${RELAY_AGENT_TOKEN}"},
    }


def test_codex_is_told_the_address_and_which_variable_has_the_token():
    program, *options = started("/usr/bin/codex", "resume")
    assert (program, options.pop()) == ("/usr/bin/codex", "resume")
    values = tomllib.loads("\n".join(options[1::2]).replace("mcp_servers.agent-relay", "a"))
    assert options[::2] == ["-c", "-c"]
    assert values["a"] == {"url": f"{URL}/mcp", "bearer_token_env_var": "RELAY_AGENT_TOKEN"}


@pytest.mark.parametrize("profile", WITH, ids=lambda one: one.name)
def test_tools_are_approved_only_where_the_operator_says_so(profile):
    plain = with_tools(profile, (profile.commands[0],), url=URL, approved=False)
    approved = with_tools(profile, (profile.commands[0],), url=URL, approved=True)
    assert approved[: len(plain)] == plain
    assert approved[len(plain) :] == profile.mcp.approve
    assert all("agent-relay" in word for word in profile.mcp.approve if not word.startswith("-c"))


@pytest.mark.parametrize(
    ("argv", "at"),
    [
        (("env", "X=1", "claude", "-c"), 3),
        (("nice", "-n", "5", "claude"), 4),
        (("npx", "claude@2.1.0"), None),
        (("bash", "-lc", "claude"), None),
        (("claude", "--mcp-config", '{"mcpServers":{"agent-relay":{}}}'), None),
        (("codex", "-c", 'mcp_servers.agent-relay.command="x"'), None),
        (("bash",), None),
        (("gemini",), None),
    ],
)
def test_the_options_stand_behind_the_program_and_only_where_it_is_seen(argv, at):
    """TRUE-HINT: what the hint says later is what was given here."""
    words = started(*argv)
    if at is None:
        assert words == argv
    else:
        assert (words[:at], words[at + 1 :]) == (argv[:at], argv[at:])
    assert bool(tools_of(harnesses.profile_for(argv), argv)) == (at is not None) == bool(harness_of(argv).tools)


def test_other_servers_in_the_arguments_stay():
    assert started("claude", "--mcp-config", "mine.json")[-2:] == ("--mcp-config", "mine.json")


def test_the_command_for_agents_runs_this_version(tmp_path):
    write_command(tmp_path / "bin")
    write_command(tmp_path / "bin")
    environment = {"PATH": f"{os.environ['PATH']}{os.pathsep}{tmp_path / 'bin'}"}
    script = tmp_path / "bin" / "relaybroker"
    done = subprocess.run(
        [script, "--version"], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert done.stdout.startswith("relaybroker, version")


OURS = {
    "type": "remote",
    "url": "{env:RELAYBROKER_URL}/mcp",
    "headers": {"Authorization": "Bearer {env:RELAY_AGENT_TOKEN}"},
}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", {}),
        ('{"theme":"x","mcp":{"mine":{"type":"local"}}}', {"theme": "x", "mcp": {"mine": {"type": "local"}}}),
        ('{"mcp":{"agent-relay":{"enabled":false}}}', {}),
    ],
)
def test_a_variable_that_gives_tools_keeps_what_was_in_it(given, kept):
    profile = harnesses.profile("opencode")
    config = json.loads(
        with_variables(profile, ("opencode",), {"OPENCODE_CONFIG_CONTENT": given})["OPENCODE_CONFIG_CONTENT"]
    )
    servers = config["mcp"]
    assert servers["agent-relay"] == OURS | ({"enabled": False} if "enabled" in given else {})
    assert (
        kept.items()
        <= (config | {"mcp": {name: one for name, one in servers.items() if name != "agent-relay"}}).items()
    )


@pytest.mark.parametrize("given", ["{nonsense", "[1]", "7"])
def test_a_variable_that_holds_no_object_is_left_alone(given):
    environment = {"OPENCODE_CONFIG_CONTENT": given, "X": "1"}
    assert with_variables(harnesses.profile("opencode"), ("opencode",), environment) == environment


def test_other_programs_get_no_variables():
    for argv in (("claude",), ("bash",), ("bash", "-lc", "opencode")):
        assert with_variables(harnesses.profile_for(argv), argv, {"X": "1"}) == {"X": "1"}


@pytest.mark.parametrize("profile", WITH, ids=lambda one: one.name)
def test_no_profile_holds_a_token_or_lets_one_into_an_argument(profile):
    """TRUE-HINT."""
    given = [*profile.mcp.args, *profile.mcp.approve, *profile.mcp.env.values()]
    assert not any("at_live" in word for word in given)
    with_token = [word for word in given if "Bearer" in word]
    assert all("${RELAY_AGENT_TOKEN}" in word or "{env:RELAY_AGENT_TOKEN}" in word for word in with_token)


SERVER = ("npx", "-y", "agent-relay", "mcp")


@pytest.mark.parametrize("name", [one.name for one in harnesses.profiles().values() if one.mcp is not None])
def test_another_server_takes_the_place_of_ours_where_the_operator_names_one(name):
    """`AGENT_RELAY_MCP_COMMAND`, for every program that takes tools."""
    profile = harnesses.profile(name)
    argv = with_tools(profile, (name,), url="http://127.0.0.1:1", approved=False, server=SERVER)
    environment = with_variables(profile, (name,), {}, server=SERVER)
    given_words = " ".join([*argv, *environment.values()])
    assert "agent-relay" in given_words
    assert all(json.dumps(word) in given_words for word in SERVER)
    assert "RELAYBROKER_URL" not in given_words
    assert "/mcp" not in given_words.replace('"mcp"', "")


def test_every_program_with_a_model_gets_its_tools_or_says_why_not():
    for one in harnesses.profiles().values():
        assert (one.mcp is None) == bool(one.no_mcp or one.hint == "none"), one.name


BY_HAND = [one for one in harnesses.profiles().values() if one.by_hand is not None]


@pytest.mark.parametrize("profile", BY_HAND, ids=lambda one: one.name)
def test_what_a_person_writes_by_hand_is_readable_and_holds_no_identity(profile):
    entry = profile.by_hand.entry
    found = json.loads(entry) if profile.by_hand.file.endswith(".json") else tomllib.loads(entry)
    (servers,) = found.values()
    (server,) = servers.values()
    assert servers.keys() == {"agent-relay"}
    if "command" in server:
        assert [server["command"], *server["args"]] == ["relaybroker", "mcp"]
    else:
        assert "RELAYBROKER_URL}/mcp" in server["url"]
        assert "RELAY_AGENT_TOKEN}" in server["headers"]["Authorization"]
    assert profile.mcp is None


def test_every_program_without_tools_that_could_have_them_says_how():
    assert {one.name for one in BY_HAND} == {"cursor", "droid", "gemini", "grok"}

"""relaybroker.toml: what counts before what, and that whatever is wrong is named as the person wrote it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from relaybroker.config.chosen import SettingsError, choose
from relaybroker.config.finding import config_file, state_directory
from relaybroker.config.fleet_file import Agent
from relaybroker.config.settings import Flags, take_settings


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "relaybroker.toml"
        path.write_text(text)
        return path

    return write


def test_a_flag_counts_before_a_variable_and_a_variable_before_the_file(file, tmp_path):
    path = file('name = "filed"\nmax_agents = 3\napi_port = 7001\nin_doubt = "at_most_once"\nstate_dir = "kept"\n')
    environ = {"RELAYBROKER_MAX_AGENTS": "4", "AGENT_RELAY_BROKER_NAME": "set"}
    settings = take_settings(Flags(config=path, api_port=0, name="given"), environ, tmp_path / "below")
    assert (settings.instance_name, settings.max_agents, settings.api_port, settings.in_doubt) == (
        "given",
        4,
        0,
        "at_most_once",
    )
    assert settings.state_dir == tmp_path / "kept", "relative to the file, not to where the command runs"
    assert settings.agents == {}
    assert take_settings(Flags(), {}, tmp_path).agents is None


@pytest.mark.parametrize(
    ("text", "environ", "flags", "said"),
    [
        ("max_agnets = 3", {}, {}, "max_agnets in FILE is not a setting. Did you mean max_agents"),
        ("max_agents = -3", {}, {}, "max_agents in FILE: input should be greater than or equal to 0 (given: -3)"),
        ('in_doubt = "perhaps"', {}, {}, "in_doubt in FILE: input should be 'ask'"),
        ('engine_url = "cast"', {}, {}, "engine_url in FILE: the engine's base URL must start with http://"),
        ('workspace_key = "rk_x"', {}, {}, "workspace_key in FILE: secrets do not belong in the file; set the variable"),
        ("name = [1", {}, {}, "FILE is no TOML"),
        ('[agents.w1]\ncli = "cat"\nchanels = []', {}, {}, "agents.w1.chanels in FILE is not a setting. Did you mean channels"),
        ("[agents.w1]\ncwd = '/'", {}, {}, "agents.w1.cli in FILE: field required"),
        ("", {"RELAYBROKER_MAX_AGENTS": "many"}, {}, "RELAYBROKER_MAX_AGENTS: input should be a valid integer"),
        ("", {"RELAYBROKER_REMOTE_ARGS": "perhaps"}, {}, "RELAYBROKER_REMOTE_ARGS: input should be a valid boolean"),
        ("", {"RELAYBROKER_LOG": "loud"}, {}, "RELAYBROKER_LOG: loud is not a level"),
        ("", {"RELAYBROKER_MAX_AGNETS": "4"}, {}, "RELAYBROKER_MAX_AGNETS is not a setting. Did you mean RELAYBROKER_MAX_AGENTS"),
        ("", {}, {"api_port": 70000}, "--api-port: input should be less than or equal to 65535"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_as_it_was_written(file, text, environ, flags, said):
    path = file(text)
    with pytest.raises(SettingsError) as refused:
        choose(flags, environ, path)
    assert said.replace("FILE", str(path)) in str(refused.value)
    assert "rk_x" not in str(refused.value)


def test_a_variable_of_somebody_else_is_nobodys_business():
    choose({}, {"RELAYBROKER_TEST_SOMETHING_OF_MINE": "1", "RELAYBROKER_URL": "http://x"}, None)


def test_file_and_state_are_found_upward_and_no_further_than_the_home_directory(tmp_path):
    home, project = tmp_path / "home", tmp_path / "home" / "work" / "project"
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "relaybroker.toml").write_text("")
    environ = {"HOME": str(home)}
    assert config_file(None, environ, deep) is None
    assert state_directory(None, environ, deep) == (deep / ".agentworkforce/relay", deep)
    (home / ".config" / "relaybroker").mkdir(parents=True)
    own = home / ".config" / "relaybroker" / "relaybroker.toml"
    own.write_text("")
    assert config_file(None, environ, deep) == own
    (project / "relaybroker.toml").write_text('state_dir = "var"')
    assert config_file(None, environ, deep) == project / "relaybroker.toml"
    assert state_directory(None, environ, deep) == (project / "var", project)
    (project / "a" / ".agentworkforce" / "relay").mkdir(parents=True)
    assert state_directory(None, environ, deep).project == project / "a", "the nearest"
    named = {**environ, "RELAYBROKER_CONFIG": "other.toml", "AGENT_RELAY_STATE_DIR": "/there"}
    assert config_file(None, named, deep) == deep / "other.toml"
    assert config_file("mine.toml", named, deep) == deep / "mine.toml"
    assert state_directory(None, named, deep).state == Path("/there")


def test_what_an_agent_is_told_of_its_messages_is_part_of_it_only_where_the_file_says_so(tmp_path):
    """A fleet that was started before the setting existed is not started again because of it."""
    plain, silent, told = Agent(cli="x"), Agent(cli="x", surface=()), Agent(cli="x", surface=("reaction",))
    by_door = Agent(cli="x", doors=("claude_inbox",))
    assert "doors" not in plain.request("a", tmp_path, {})
    assert by_door.request("a", tmp_path, {})["doors"] == ("claude_inbox",)
    assert "surface" not in plain.request("a", tmp_path, {})
    assert silent.request("a", tmp_path, {})["surface"] == ()
    assert told.request("a", tmp_path, {})["surface"] == ("reaction",)
    assert len({one.fingerprint(tmp_path) for one in (plain, silent, told, by_door)}) == 4
    former = plain.model_dump(mode="json")
    del former["surface"], former["doors"], former["restart"]
    said = msgspec.json.encode([former, str(tmp_path)], order="sorted")
    assert plain.fingerprint(tmp_path) == hashlib.sha256(said).hexdigest()[:16]


def test_an_agent_of_the_file_is_started_again_only_where_the_file_says_so(tmp_path):
    plain, wanted = Agent(cli="x"), Agent(cli="x", restart=True)
    limited = Agent(cli="x", restart={"max_restarts": 2})
    assert "restart_policy" not in plain.request("a", tmp_path, {})
    assert wanted.request("a", tmp_path, {})["restart_policy"] == {"enabled": True}
    assert limited.request("a", tmp_path, {})["restart_policy"] == {"enabled": True, "max_restarts": 2}
    assert len({one.fingerprint(tmp_path) for one in (plain, wanted, limited)}) == 3

"""The operator's own profiles: beside and before the built-in ones, and refused with file and key."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.harnesses import HarnessError
from relaybroker.config.harness_files import harness_files

MINE = """
name = "mine"
commands = ["my-agent", "my-agent-*"]
[[composer]]
frame = "rules"
prompt = "> "
"""


@pytest.fixture(autouse=True)
def nothing_of_it_stays():
    yield
    harnesses.use({})


def use(**files):
    harnesses.use(harnesses.read({f"{name}.toml": text for name, text in files.items()}))


def test_a_program_of_the_operator_is_known_until_another_set_is_used():
    assert harnesses.profile_for(["my-agent-2", "--x"]).name == "default"
    use(mine=MINE)
    assert harnesses.profile_for(["my-agent-2", "--x"]).name == "mine"
    assert harnesses.of_program(["/opt/bin/my-agent"]).name == "mine"
    assert harnesses.profile_for(["claude"]).name == "claude"
    harnesses.use({})
    assert harnesses.profile_for(["my-agent-2", "--x"]).name == "default"
    assert "mine" not in harnesses.names()


def test_a_profile_of_the_operator_comes_first_and_takes_the_place_of_its_namesake():
    use(claude='name = "claude"\ncommands = ["cl"]', wrapped='name = "wrapped"\ncommands = ["codex"]')
    assert harnesses.profile("claude").commands == ("cl",)
    assert harnesses.profile_for(["claude"]).name == "default"
    assert harnesses.profile_for(["codex"]).name == "wrapped"
    harnesses.use({})
    assert harnesses.profile_for(["claude"]).name == "claude"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'x", "a.toml is no TOML: "),
        ("commands = ['x']", "a.toml: name: is missing"),
        ("name = ''", "a.toml: name takes lower-case letters"),
        ("name = 'X'", "a.toml: name takes lower-case letters"),
        ("name = 'x'\nsettlems = 3", "a.toml: settlems: is no key of a profile; nearest: settle_ms"),
        ("name = 'x'\nsettle_ms = '3'", "a.toml: settle_ms: Expected `int`, got `str`"),
        ("name = 'x'\nsettle_ms = -1", "a.toml: settle_ms: Expected `int` >= 0"),
        ("name = 'x'\nverify_s = 1e9", "a.toml: verify_s: Expected `float` <= 86400"),
        ("name = 'x'\ncommands = ['Xy']", "a.toml: commands are lower-case"),
        ("name = 'x'\ncommands = ['*']", "a.toml: commands are lower-case and name something"),
        ("name = 'x'\ntreatment = 'shout'", "a.toml: treatment: Invalid enum value 'shout'"),
        ("name = 'x'\n[[composer]]\nframe='rules'\nprompt='('", "a.toml: composer[0].prompt: no regular expression: "),
        ("name = 'x'\n[[busy]]\nplace='above'\npattern='['", "a.toml: busy[0].pattern: no regular expression: "),
        ("name = 'x'\n[[dialogs]]\nname='q'\nall_off=['a']", "a.toml: dialogs[0].all_off: is no key of a profile; nearest: all_of"),
        ("name = 'x'\n[mcp]\ntool = 'send'\nargs = ['-x']", "a.toml: mcp: tool must hold {tool}"),
        ("name = 'x'\n[mcp]\ntool = '{tool}'\nenv = {A = '['}\ncommand_env = {A = '{}'}", "a.toml: mcp: "),
        ("name = 'x'\n[mcp]\ntool = '{tool}'\nenv = {A = '[]'}\ncommand_env = {A = '{}'}", "a.toml: mcp: what env and"),
        ("name = 'x'\n[script]\nconsole_cluster = '('", "a.toml: script.console_cluster: no regular expression: "),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_an_error_that_names_file_and_key(text, said):
    with pytest.raises(HarnessError) as caught:
        harnesses.read({"a.toml": text})
    assert str(caught.value).startswith(said)


def test_two_profiles_of_one_name_are_an_error():
    with pytest.raises(HarnessError, match=r"b\.toml: name: a\.toml is called 'x', too"):
        harnesses.read({"a.toml": "name = 'x'", "b.toml": "name = 'x'"})


def test_a_directory_is_read_by_its_toml_files(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "README").write_text("no profile")
    assert harness_files(tmp_path) == {str(tmp_path / "mine.toml"): MINE}
    (tmp_path / "bad.toml").write_text("nam = 'x'")
    with pytest.raises(HarnessError, match=r"bad\.toml: nam: is no key of a profile; nearest: name"):
        harness_files(tmp_path)


def test_a_directory_has_bounds(tmp_path, monkeypatch):
    with pytest.raises(HarnessError, match="cannot be read"):
        harness_files(tmp_path / "nowhere")
    (tmp_path / "a.toml").write_bytes(b"\xff")
    with pytest.raises(HarnessError, match="cannot be read"):
        harness_files(tmp_path)
    (tmp_path / "a.toml").write_text("#" * (harnesses.MAX_OWN_BYTES + 1))
    with pytest.raises(HarnessError, match="more than 64 KiB"):
        harness_files(tmp_path)
    monkeypatch.setattr(harnesses, "MAX_OWN", 0)
    with pytest.raises(HarnessError, match="has 1 profiles; at most 0"):
        harness_files(tmp_path)

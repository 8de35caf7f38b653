"""Where the program of a spawn request is looked for."""

from __future__ import annotations

import os

import pytest

from relaybroker.adapters.http.api.bodies import SpawnBody
from relaybroker.adapters.http.api.spawn_request import spawn_spec
from relaybroker.domain.errors import InvalidRequest


def make_program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path


def is_found(cli, **fields):
    try:
        spawn_spec(SpawnBody(name="w1", cli=cli, **fields))
    except InvalidRequest as error:
        return error.code != "cli_not_found"
    return True


@pytest.mark.parametrize("directory", ["path", ".local/bin", ".opencode/bin", ".claude/local"])
def test_a_program_is_found_on_path_and_in_the_usual_places(home, directory):
    assert not is_found("my-agent --flag")
    make_program(home / directory / "my-agent")
    assert is_found("my-agent --flag")


def test_a_path_is_taken_from_the_working_directory_of_the_agent(home):
    make_program(home / "work" / "run.sh")
    assert is_found("./run.sh", cwd=str(home / "work"))
    assert not is_found("./run.sh", cwd=str(home))
    assert is_found(str(home / "work" / "run.sh"))


def test_a_file_that_is_no_program_is_not_one(home):
    make_program(home / "path" / "data").chmod(0o644)
    assert not is_found("data")
    assert not is_found(str(home / "path" / "data"))
    assert not is_found(str(home))


def test_without_path_the_systems_default_is_searched(home, monkeypatch):
    monkeypatch.delenv("PATH")
    assert is_found("cat") == any(os.access(f"{part}/cat", os.X_OK) for part in ("/bin", "/usr/bin"))

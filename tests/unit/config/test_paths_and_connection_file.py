from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from relaybroker.config import connection_file
from relaybroker.config.connection_file import Connection
from relaybroker.config.paths import data_local_directory, file_name, paths_of


def test_every_broker_of_every_directory_has_places_of_its_own(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/user/1"}
    one = paths_of("a b", tmp_path / "x", environ, ephemeral=False)
    two = paths_of("a b", tmp_path / "y", environ, ephemeral=False)
    assert one.name == file_name("a b") == "a-b"
    assert one.lock == tmp_path / "x" / "broker-a-b.lock"
    assert str(one.run).startswith("/run/user/1/agent-relay/run/a-b-")
    assert one.run != two.run
    assert one.data == tmp_path / ".local" / "share" / "agent-relay"
    assert tmp_path / "x" not in one.run.parents


def test_without_a_runtime_directory_secrets_are_in_the_data_directory(tmp_path: Path) -> None:
    paths = paths_of("a", tmp_path / "x", {"XDG_DATA_HOME": "/data"}, ephemeral=False)
    assert str(paths.run).startswith("/data/agent-relay/run/a-")


def test_a_user_without_home_is_told_what_to_set() -> None:
    with pytest.raises(LookupError, match="HOME"):
        data_local_directory({})


# --- connection.json --------------------------------------------------------------------------------------------------


def test_a_connection_is_published_privately_and_withdrawn_only_if_it_is_ours(tmp_path: Path) -> None:
    ours = Connection(url="http://127.0.0.1:1", port=1, api_key="br_x", pid=10)
    other = Connection(url="http://127.0.0.1:2", port=2, api_key="br_y", pid=11)
    files = (tmp_path / "connection.json", tmp_path / "connection-a.json")
    connection_file.publish(ours, files)
    assert json.loads(files[0].read_text()) == {"url": "http://127.0.0.1:1", "port": 1, "api_key": "br_x", "pid": 10}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    connection_file.publish(other, files[:1])
    connection_file.withdraw(ours, files)
    assert connection_file.read(files[0]) == other
    assert not files[1].exists()
    assert "br_x" not in repr(ours)


def test_a_file_that_is_no_connection_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "connection.json").write_text("{}")
    connection_file.withdraw(Connection(url="", port=1, api_key="", pid=1), [tmp_path / "connection.json"])
    assert (tmp_path / "connection.json").exists()

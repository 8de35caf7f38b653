from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from relaybroker.adapters.token_cache import TokenCache

MakeCache = Callable[..., TokenCache]
GOOD = {"node_id": "node_1", "workspace_id": "ws_1", "base_url": "http://e", "token": "nt_live_secret"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    directory = tmp_path / "data" / "node-tokens"
    directory.mkdir(parents=True, mode=0o700)
    return directory / "node_1.json"


def test_a_stored_token_is_found_again(make_cache: MakeCache, tmp_path: Path) -> None:
    assert make_cache().load() is None
    assert make_cache().store("nt_live_secret")
    cached = make_cache().load()
    assert cached is not None
    assert cached.token == "nt_live_secret"
    path = tmp_path / "data" / "node-tokens" / "node_1.json"
    assert json.loads(path.read_text()) == GOOD
    assert path.read_text().count("\n") == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("key", ["node_id", "workspace_id", "base_url"])
def test_a_token_for_another_node_workspace_or_engine_is_not_used(make_cache: MakeCache, key: str) -> None:
    """I4, F042."""
    assert make_cache(**{key: "another", "node_id": "node_1"} if key != "node_id" else {}).store("nt_live_secret")
    other = make_cache(node_id="node_2") if key == "node_id" else make_cache()
    assert other.load() is None


@pytest.mark.parametrize(
    "entry",
    [
        {key: value for key, value in GOOD.items() if key != "workspace_id"},
        {key: value for key, value in GOOD.items() if key != "base_url"},
        {key: value for key, value in GOOD.items() if key != "token"},
        GOOD | {"token": "  "},
        GOOD | {"base_url": "http://e/"},
        GOOD | {"node_id": "NODE_1"},
        GOOD | {"token": 5},
        [],
    ],
)
def test_anything_that_does_not_fit_exactly_is_refused_with_a_reason_and_no_token(
    make_cache: MakeCache, file: Path, entry: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file.write_text(json.dumps(entry))
    file.chmod(0o600)
    assert make_cache().load() is None
    assert "is not used" in caplog.text
    assert "nt_live_secret" not in caplog.text


@pytest.mark.parametrize("content", [b"{", b"", b'{"node_id":"\xff"}', b"\x00\xff\xfe", b"null"])
def test_a_file_that_is_no_json_is_refused(make_cache: MakeCache, file: Path, content: bytes) -> None:
    """1.6: anything else counts as absent, also what is not even text; the start goes on."""
    file.write_bytes(content)
    file.chmod(0o600)
    assert make_cache().load() is None


def test_a_loose_file_is_repaired_and_then_used(make_cache: MakeCache, file: Path) -> None:
    file.write_text(json.dumps(GOOD))
    file.chmod(0o644)
    file.parent.chmod(0o755)
    cached = make_cache().load()
    assert cached is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_cache_that_cannot_be_written_is_a_warning(make_cache: MakeCache, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    assert make_cache().store("nt_live_secret") is False


def test_an_id_becomes_a_safe_file_name(make_cache: MakeCache, tmp_path: Path) -> None:
    assert make_cache(node_id="../a b").store("t")
    assert make_cache(node_id="").store("t")
    names = sorted(path.name for path in (tmp_path / "data" / "node-tokens").iterdir())
    assert names == ["___a_b.json", "node.json"]


def test_a_removed_token_is_gone(make_cache: MakeCache) -> None:
    make_cache().store("t")
    make_cache().remove()
    assert make_cache().load() is None


def test_a_token_is_not_in_its_repr(make_cache: MakeCache) -> None:
    make_cache().store("nt_live_secret")
    assert "secret" not in repr(make_cache().load())

"""What a broker says when it ends by itself is there for whoever asks later, and is gone when one runs again."""

from __future__ import annotations

import os

from click.testing import CliRunner

from relaybroker.cli.app import cli
from relaybroker.config import last_words


def test_a_command_without_a_broker_says_why_the_last_one_ended(tmp_path, monkeypatch):
    monkeypatch.delenv("RELAY_BROKER_URL", raising=False)
    last_words.leave(tmp_path, "a commit failed: disk I/O error")
    for words in (["status"], ["agent", "ls"]):
        got = CliRunner().invoke(cli, [*words, "--state-dir", str(tmp_path)])
        assert got.exit_code == 4
        assert "a commit failed: disk I/O error" in got.output
    assert (tmp_path / "ended.json").stat().st_mode & 0o777 == 0o600
    last_words.take_away(tmp_path)
    assert "disk I/O" not in CliRunner().invoke(cli, ["status", "--state-dir", str(tmp_path)]).output


def test_words_that_cannot_be_left_or_read_end_nothing(tmp_path):
    last_words.leave(tmp_path / "not there", "why")
    last_words.take_away(tmp_path / "not there")
    for content in (b"", b"\xff", b"[" * 10_000, b'{"at":"x"}'):
        (tmp_path / "ended.json").write_bytes(content)
        assert last_words.read(tmp_path) is None
    (tmp_path / "ended.json").unlink()
    os.mkfifo(tmp_path / "ended.json")
    assert last_words.read(tmp_path) is None

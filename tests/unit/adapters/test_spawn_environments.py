"""Variables that callers bring along are kept until their program has them, privately and over a restart."""

from __future__ import annotations

import stat

from relaybroker.adapters.spawn_environments import SpawnEnvironments

KEYS = {"MY_KEY": "k-1", "EMPTY": "", "NOTE": "a\nb \U0001f600"}


def test_values_are_found_again_by_their_reference_also_after_a_restart(tmp_path):
    reference = SpawnEnvironments(tmp_path / "environments").keep(KEYS)
    again = SpawnEnvironments(tmp_path / "environments")
    assert again.values(reference) == KEYS
    assert again.values("env_0000000000000000") is None


def test_values_are_private_and_in_no_text_about_them(tmp_path):
    kept = SpawnEnvironments(tmp_path / "environments")
    reference = kept.keep(KEYS)
    (path,) = (tmp_path / "environments").iterdir()
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert "k-1" not in repr(kept)
    assert "k-1" not in reference


def test_what_is_forgotten_is_off_the_disk(tmp_path):
    kept = SpawnEnvironments(tmp_path / "environments")
    first, second, third = (kept.keep(KEYS) for _ in range(3))
    kept.forget(first)
    kept.forget(first)
    kept.forget_except({third, "env_ffffffffffffffff"})
    assert (kept.values(first), kept.values(second), kept.values(third)) == (None, None, KEYS)
    assert [path.stem for path in (tmp_path / "environments").iterdir()] == [third]


def test_a_damaged_file_is_left_alone(tmp_path):
    directory = tmp_path / "environments"
    reference = SpawnEnvironments(directory).keep(KEYS)
    (directory / f"{reference}.json").write_text("{")
    (directory / "env_other.json").write_text("{}")
    again = SpawnEnvironments(directory)
    assert again.values(reference) is None
    assert len(list(directory.iterdir())) == 2

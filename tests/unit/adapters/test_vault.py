from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from relaybroker.adapters.token_cache import TokenCache
from relaybroker.adapters.vault import Vault, agent_reference, fingerprint

MakeVault = Callable[..., Vault]


def test_a_fingerprint_tells_tokens_apart_and_shows_nothing() -> None:
    """F064."""
    assert fingerprint("at_live_a") == fingerprint("at_live_a")
    assert fingerprint("at_live_a") != fingerprint("at_live_b")
    assert fingerprint("at_live_a").startswith("sha256:")
    assert len(fingerprint("at_live_a")) == len("sha256:") + 12


def test_tokens_of_agents_survive_a_broker(make_vault: MakeVault, tmp_path: Path) -> None:
    make_vault().keep(agent_reference("248"), "at_live_one")
    assert make_vault().token("agent:248") == "at_live_one"
    [file] = (tmp_path / "run" / "tokens").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_token_file_that_is_no_text_is_left_as_it_is_and_keeps_no_broker_from_starting(
    make_vault: MakeVault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """KEEP-BYTES."""
    make_vault().keep("agent:1", "at_live_one")
    (tmp_path / "run" / "tokens" / "2.token").write_bytes(b"\xff\xfe")
    (tmp_path / "run" / "tokens" / "2.token").chmod(0o600)
    vault = make_vault()
    assert vault.token("agent:1") == "at_live_one"
    assert vault.token("agent:2") is None
    assert (tmp_path / "run" / "tokens" / "2.token").read_bytes() == b"\xff\xfe"
    assert "2.token is no token" in caplog.text


def test_a_forgotten_token_is_gone_from_memory_and_disk(make_vault: MakeVault, tmp_path: Path) -> None:
    vault = make_vault()
    vault.keep("agent:1", "at_live_one")
    vault.forget("agent:1")
    assert not vault.has("agent:1")
    assert list((tmp_path / "run" / "tokens").iterdir()) == []


def test_a_newer_token_is_not_forgotten_in_place_of_an_older_one(make_vault: MakeVault) -> None:
    vault = make_vault()
    vault.keep("agent:1", "at_live_new")
    vault.forget("agent:1", "at_live_old")
    assert vault.token("agent:1") == "at_live_new"


def test_tokens_of_unknown_agents_are_forgotten(make_vault: MakeVault) -> None:
    vault = make_vault()
    vault.keep("agent:1", "at_live_one")
    vault.keep("agent:2", "at_live_two")
    vault.keep("own", "at_live_own", agent_id="9")
    vault.forget_agents_except({"2"})
    assert make_vault().token("agent:1") is None
    assert make_vault().token("agent:2") == "at_live_two"
    assert make_vault().token("own") == "at_live_own"


def test_the_brokers_own_agent_is_found_by_its_id_too(make_vault: MakeVault) -> None:
    """F063: a broker that was killed has its own identity back."""
    make_vault().keep("own", "at_live_own", agent_id="77")
    again = make_vault()
    assert again.own_agent_id == "77"
    assert again.token("agent:77") == again.token("own") == "at_live_own"


def test_a_pinned_token_is_used_and_nothing_is_ever_written_or_replaced(
    make_vault: MakeVault, make_cache: Callable[..., TokenCache], tmp_path: Path
) -> None:
    """I3."""
    vault = make_vault(pinned="nt_live_pinned")
    assert vault.token("node") == "nt_live_pinned"
    with pytest.raises(ValueError, match="never replaced"):
        vault.keep("node", "nt_live_minted")
    assert vault.token("node") == "nt_live_pinned"
    assert not (tmp_path / "data").exists()


def test_a_pinned_token_wins_over_a_cached_one_that_stays_as_it_is(
    make_vault: MakeVault, make_cache: Callable[..., TokenCache]
) -> None:
    """I3."""
    make_vault().keep("node", "nt_live_cached")
    assert make_vault(pinned="nt_live_pinned").token("node") == "nt_live_pinned"
    assert make_vault().token("node") == "nt_live_cached"


@pytest.mark.parametrize("reference", ["agent:../../etc", "agent:", "workspace", "something"])
def test_a_reference_that_is_no_file_name_is_refused(make_vault: MakeVault, reference: str) -> None:
    with pytest.raises(ValueError, match="reference"):
        make_vault().keep(reference, "at_live_x")


def test_no_token_is_in_the_repr(make_vault: MakeVault) -> None:
    """I7."""
    vault = make_vault(pinned="nt_live_secret")
    vault.keep("agent:1", "at_live_secret")
    assert "secret" not in repr(vault)
    assert "agent:1" in repr(vault)


def test_an_agent_is_found_by_its_newest_token_and_by_no_other(make_vault: MakeVault) -> None:
    vault = make_vault()
    vault.keep("agent:5", "at_live_old")
    vault.keep("agent:6", "at_live_six")
    vault.keep("own", "at_live_own", agent_id="900")
    assert [vault.agent_of(token) for token in ("at_live_old", "at_live_six")] == ["5", "6"]
    vault.keep("agent:5", "at_live_new")
    assert [vault.agent_of(token) for token in ("at_live_old", "at_live_new")] == ["", "5"]
    assert [vault.agent_of(token) for token in ("", "at_live_own", "at_live_", "\udcff")] == [""] * 4
    vault.forget("agent:5")
    assert vault.agent_of("at_live_new") == ""
    assert make_vault().agent_of("at_live_six") == "6", "after a restart as well"

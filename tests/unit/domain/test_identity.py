from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.domain.identity import (
    choose_node_name,
    derive_node_id,
    distinct_node_name,
)

SEED_A = "node_seed123"
SEED_B = "node_0123456789abcdef0123456789abcdef"

parts = st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)
paths = st.binary(max_size=40).filter(lambda path: b"\0" not in path)


@pytest.mark.parametrize(
    ("seed", "cwd", "workspace", "expected"),
    [
        (SEED_A, "/Users/will/Projects/relay", "ws_a", "node_301bd7f26faab3fd9d62c85de2752583"),
        (SEED_B, "/home/u/p", "ws_a", "node_6405aa4dcedf90ada31b75496539cec8"),
        (SEED_B, "/home/u/p", "ws_b", "node_3a31584f13a369be6d228320a504923e"),
        (SEED_B, "/home/ü/p", "ws_a", "node_01a7f212af9f9681c445e4844c267864"),
    ],
)
def test_the_three_part_form_gives_the_published_ids(seed: str, cwd: str, workspace: str, expected: str) -> None:
    """F042: another workspace in one directory is another node."""
    assert derive_node_id(seed, cwd.encode(), workspace) == expected


@given(seed=parts, cwd=paths, workspace=parts)
def test_an_id_is_pure_and_well_formed(seed: str, cwd: bytes, workspace: str) -> None:
    """I1."""
    first = derive_node_id(seed, cwd, workspace)
    assert first == derive_node_id(seed, cwd, workspace)
    assert re.fullmatch(r"node_[0-9a-f]{32}", first)


@given(one=st.tuples(parts, paths, parts), other=st.tuples(parts, paths, parts))
def test_no_two_splits_share_an_id(one: tuple[str, bytes, str], other: tuple[str, bytes, str]) -> None:
    """I1: a change of any component, or another split of the same text, changes the id."""
    assert (derive_node_id(*one) == derive_node_id(*other)) == (one == other)


def test_moving_a_letter_over_a_separator_changes_the_id() -> None:
    assert derive_node_id("ab", b"c", "d") != derive_node_id("a", b"bc", "d")
    assert derive_node_id("ab", b"c", "d") != derive_node_id("ab", b"", "cd")


def test_a_path_that_is_not_utf8_has_an_id_of_its_own() -> None:
    assert derive_node_id(SEED_A, b"/p/\xff", "ws") != derive_node_id(SEED_A, b"/p/\xfe", "ws")


@pytest.mark.parametrize(("seed", "cwd", "workspace"), [("a\0b", b"c", "d"), ("a", b"b\0c", "d"), ("a", b"b", "c\0d")])
def test_a_part_with_the_separator_in_it_is_refused(seed: str, cwd: bytes, workspace: str) -> None:
    with pytest.raises(ValueError, match=r"U\+0000"):
        derive_node_id(seed, cwd, workspace)


def test_a_name_that_the_operator_chose_stays_as_it_is() -> None:
    assert choose_node_name(chosen=(" ", " build-7 "), hostname="vm", node_id=SEED_B) == "build-7"


def test_a_name_that_nobody_chose_is_made_distinct() -> None:
    """F043: two brokers of one host never share a name by accident."""
    assert choose_node_name(chosen=(), hostname="vm", node_id="node_639daddb1d148460") == "vm-639daddb"
    assert choose_node_name(chosen=("",), hostname=" ", node_id="node_639daddb1d148460") == "relay-node-639daddb"


def test_the_suffix_works_for_a_fixed_id_of_any_form() -> None:
    assert distinct_node_name("vm", "my-own-node") == "vm-my-own-n"

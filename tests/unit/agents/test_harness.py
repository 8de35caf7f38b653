"""Which harness profile a program gets."""

from __future__ import annotations

import pytest

from relaybroker.agents.harness import harness_of
from relaybroker.domain.errors import InvalidRequest, Refusal


def test_the_name_that_a_caller_gives_decides_over_the_command():
    assert harness_of(("env", "X=1", "claude")).profile == "claude"
    assert harness_of(("bash", "-lc", "claude")).profile == "default"
    assert harness_of(("bash", "-lc", "claude"), "claude").profile == "claude"
    assert harness_of(("claude",), "shell").profile == "shell"


@pytest.mark.parametrize(("name", "nearest"), [("cluade", "claude"), ("Codex", "codex"), ("open-code", "opencode")])
def test_an_unknown_name_is_refused_with_the_nearest_ones(name, nearest):
    with pytest.raises(InvalidRequest) as caught:
        harness_of(("x",), name)
    assert (caught.value.kind, caught.value.code) == (Refusal.INVALID, "unknown_harness")
    assert nearest in caught.value.message


def test_a_name_that_is_near_none_is_refused_with_all_of_them():
    with pytest.raises(InvalidRequest, match=r"known: .*claude.*shell"):
        harness_of(("x",), "zzzzzz")

"""A person answers what a program asks by naming the option, without attaching to it (ADR-0072)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.agents import install
from tests.agents.bench import ApiError, Bench
from tests.agents.conftest import Opener
from tests.agents.questions import DIALOGS

AT_START = {
    ("claude", "trust"): "Yes, I trust", ("claude", "api-key"): "Yes", ("claude", "mcp"): "Continue without",
    ("codex", "trust"): "Trust and continue", ("codex", "update"): "2", ("gemini", "trust"): "Don't trust",
    ("copilot", "trust"): "1", ("aider", "gitignore"): "n", ("aider", "no-git"): "n",
}  # fmt: skip
"""What is chosen before the composer shows."""


class Choice(NamedTuple):
    """An option of a question in a session, and whether the program then runs the command."""

    option: str
    runs: bool


PERMISSIONS = {
    "claude": (Choice("Yes", True), Choice("No", False)), "codex": (Choice("1", True), Choice("3", False)),
    "gemini": (Choice("Allow once", True), Choice("No, suggest", False)),
    "qwen": (Choice("Yes, allow once", True), Choice("No, suggest", False)),
    "copilot": (Choice("1", True), Choice("3", False)), "cline": (Choice("y", True), Choice("n", False)),
    "aider": (Choice("y", True), Choice("n", False)),
}  # fmt: skip


def _answer(bench: Bench, option: str) -> None:
    """Answer as soon as the option is there; a question may be replaced by the next one at any moment."""

    def answered() -> bool:
        try:
            bench.api("POST", "/api/spawned/w1/answer", {"option": option, "timeout_ms": 20_000})
        except ApiError as error:
            if any(code in str(error) for code in ("no_question", "question_changed", "unknown_option")):
                return False
            raise
        return True

    bench.until(answered, 60, f"the option {option} is there and chosen")


def _ran(bench: Bench, probe: Path) -> bool:
    """Whether the command ran, or something else is asked first."""
    bench.until(lambda: probe.exists() or bench.agent().get("blocked_by"), 40, "the command ran, or another question")
    return probe.exists()


@pytest.mark.parametrize("case", sorted({case for _, case in AT_START}))
def test_a_question_at_the_start_is_answered_by_name(
    opened: Opener, installed: install.Installed, case: str, request: pytest.FixtureRequest
) -> None:
    if (option := AT_START.get((installed.program, case))) is None:
        pytest.skip(f"{installed.program} has no such start")
    request.node.add_marker(pytest.mark.holds(f"start, {case}: answered by name"))
    bench = opened(case)
    bench.spawn()
    _answer(bench, option)
    identifier = bench.send("please begin")
    bench.until_arrived([identifier], 90)
    bench.until_acked([identifier], 15)


@pytest.mark.parametrize("at", [0, 1], ids=["allow", "deny"])
def test_a_permission_is_given_or_refused_by_name(
    opened: Opener, installed: install.Installed, at: int, request: pytest.FixtureRequest
) -> None:
    if (choices := PERMISSIONS.get(installed.program)) is None:
        pytest.skip(f"{installed.program} asks for no permission that can be answered by name")
    option, runs = choices[at]
    request.node.add_marker(pytest.mark.holds(f"permission: {'given' if runs else 'refused'} by name"))
    dialog = DIALOGS[installed.program]["permission"]
    bench = opened()
    if dialog.setup is not None:
        bench.home = dialog.setup(bench.home)
    bench.spawn()
    bench.until_composer()
    bench.until(lambda: bench.agent()["ready"], 75, "ready")
    probe = bench.folder / "probe"
    bench.send(dialog.prompt.replace("PROBE", str(probe)))
    _answer(bench, option)
    if runs and not _ran(bench, probe):
        _answer(bench, option)  # copilot asks for the path, then for the command
    if runs:
        bench.until(probe.exists, 40, "the command ran")
    identifier = bench.send("and one more thing")
    bench.until_arrived([identifier], 60)
    bench.until_acked([identifier], 15)
    assert probe.exists() == runs

"""Replaying session files in tests.

Source: spec/architecture.md section 9; docs/testing.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relaybroker.replay import telling
from relaybroker.replay.playing import Outcome, Player
from relaybroker.replay.policies import changed
from relaybroker.replay.session import open_session

SHOWN = 20
"""Differences that a failure shows."""


def replay_session(path: Path | str, *, until: int | None = None, what_if: Sequence[str] = ()) -> Outcome:
    """Decide a recorded session again (`relaybroker replay`), and compare.

    Args:
        path: a session file: of `up --record` or `log export --session`.
        until: stop behind this position of the log; `Outcome.state` is the state there.
        what_if: play under another policy: `KEY=VALUE` pairs; then `Outcome.differences` is the answer.

    Raises:
        AssertionError: this version decides anything otherwise, with the diffs; or the file ends in the middle.
        SessionError: the file is no session; `code` says why.
        BadPolicyError: `what_if` names no setting.
    """
    policy = changed(what_if) if what_if else None
    with open_session(Path(path)) as session:
        outcome = Player(session, settings=policy).play(until)
    if what_if:
        return outcome
    if outcome.differences:
        shown = "\n".join(line for difference in outcome.differences[:SHOWN] for line in telling.difference(difference))
        count = len(outcome.differences)
        raise AssertionError(f"{path}: {count} of {outcome.turns} turns are decided differently\n{shown}")
    if until is None and not outcome.complete:
        raise AssertionError(f"{path}: the recording was cut off; the complete part replays without differences")
    return outcome

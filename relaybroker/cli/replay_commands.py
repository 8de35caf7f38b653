"""`replay`: play a session file against this version's core."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from relaybroker.cli import completion
from relaybroker.cli.exits import LAST, Exit, fail
from relaybroker.cli.options import examples, json_option
from relaybroker.cli.output import say, say_json
from relaybroker.cli.progress import progress

if TYPE_CHECKING:
    from relaybroker.replay.playing import Outcome
    from relaybroker.replay.session import SessionError


@examples(
    "relaybroker replay incident.jsonl",
    "relaybroker replay incident.jsonl --until 4711",
    "relaybroker replay incident.jsonl --what-if in_doubt=at_least_once",
)
@click.command()
@click.argument("file", type=click.Path(path_type=Path), shell_complete=completion.files)
@click.option("--until", type=click.IntRange(1, LAST), help="Stop after this log position and show the state there.")
@click.option(
    "--what-if", "policies", multiple=True, metavar="KEY=VALUE", help="Replay under another policy; may be repeated."
)
@click.option(
    "--redacted-to",
    type=click.Path(path_type=Path),
    help="Write the session, without message bodies, to this new file.",
)
@click.option(
    "-n", "count", type=click.IntRange(1, LAST), default=20, show_default=True, help="Show at most N differences."
)
@json_option
def replay(
    file: Path, until: int | None, policies: tuple[str, ...], redacted_to: Path | None, count: int, as_json: bool
) -> None:
    """Replay a recorded session and compare the decisions.

    A session is written by `up --record FILE` or `log export --session`. Where this version
    decides anything differently, it prints a diff (- recorded, + decided now); the exit status is then 1, or 0 with --what-if, where
    differences are what you asked for.
    """
    from relaybroker.replay.playing import Player
    from relaybroker.replay.policies import BadPolicyError, changed
    from relaybroker.replay.session import SessionError, open_session

    try:
        if redacted_to is not None:
            _redact(file, redacted_to)
            return
        change = changed(policies) if policies else None
        with open_session(file) as session, progress("replaying") as watch:
            outcome = Player(session, settings=change).play(until, watch)
    except SessionError as error:
        _refuse(file, error)
    except BadPolicyError as error:
        fail(Exit.USAGE, str(error))
    if as_json:
        say_json(_as_data(outcome, count, with_state=until is not None))
    else:
        _print(outcome, count, until)
    if outcome.differences and not policies:
        raise SystemExit(int(Exit.FAILED))


def _refuse(file: Path, error: SessionError) -> NoReturn:
    fail(Exit.NOT_FOUND if error.code == "not_found" else Exit.USAGE, f"{file}: {error}", error.code, line=error.line)


def _redact(file: Path, target: Path) -> None:
    from relaybroker.adapters import private_files
    from relaybroker.replay.redaction import redact
    from relaybroker.replay.session import open_session

    with open_session(file) as session:
        try:
            private_files.create(target)
        except OSError as error:
            fail(Exit.FAILED, f"{target} cannot be made: {error}")
        try:
            with target.open("r+b") as output:
                turns = redact(session, output)
        except BaseException:
            target.unlink()
            raise
    say(f"Wrote {turns} turns without message bodies to {target}.")


def _print(outcome: Outcome, count: int, until: int | None) -> None:
    from relaybroker.replay import telling

    for difference in outcome.differences[:count]:
        for line in telling.difference(difference):
            say(line)
    if len(outcome.differences) > count:
        say(f"{len(outcome.differences) - count} more: -n {len(outcome.differences)}")
    if until is not None:
        for line in telling.state(outcome.state):
            say(line)
    elif not outcome.complete:
        say("The recording was cut off (it has no last line); the complete part was replayed.", err=True)
    differ = len(outcome.differences)
    verdict = f"{differ} difference{'' if differ == 1 else 's'}." if differ else "No differences."
    say(f"{outcome.turns} turns, {outcome.events} events: {verdict}")


def _as_data(outcome: Outcome, count: int, *, with_state: bool) -> dict[str, Any]:
    import msgspec

    data: dict[str, Any] = {
        "turns": outcome.turns,
        "events": outcome.events,
        "complete": outcome.complete,
        "different": len(outcome.differences),
        "differences": msgspec.to_builtins(outcome.differences[:count]),
    }
    if with_state:
        state = msgspec.json.decode(msgspec.json.encode(outcome.state))
        state.pop("announcements")
        data["state"] = state
    return data

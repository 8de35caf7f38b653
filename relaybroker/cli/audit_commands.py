"""Commands that read the log: why, delivery, log, machine. They work whether the broker runs or not."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from relaybroker.audit import telling, times
from relaybroker.audit.telling import detail
from relaybroker.cli import completion
from relaybroker.cli.client import state_directory
from relaybroker.cli.exits import LAST, Exit, fail
from relaybroker.cli.groups import Group
from relaybroker.cli.moments import moment
from relaybroker.cli.options import examples, json_option, name_option, state_option
from relaybroker.cli.output import say, say_json
from relaybroker.cli.progress import progress
from relaybroker.cli.tables import table
from relaybroker.config.nearest import did_you_mean

if TYPE_CHECKING:
    from relaybroker.adapters.eventstore.reader import LogReader
    from relaybroker.audit.deliveries import Row
    from relaybroker.audit.search import Search
    from relaybroker.domain.events import Recorded
    from relaybroker.domain.story import Story


def _place(command: Any) -> Any:
    return state_option(name_option(command))


@contextmanager
def _log(state_dir: str | None, name: str) -> Iterator[LogReader]:
    """The log that is meant; of several the one that was written last, which is said."""
    from relaybroker.audit.log import NoLog, journals_of

    try:
        journals = journals_of(state_directory(state_dir), name)
    except NoLog as error:
        fail(Exit.NOT_FOUND, f"{error}. Name the state directory with --state-dir")
    (chosen, path), *others = journals.items()
    if others:
        names = ", ".join(other for other, _ in others)
        say(f"relaybroker: showing the log of {chosen}; choose another with --name: {names}", err=True)
    with _opened(path) as reader:
        yield reader


@contextmanager
def _opened(path: Path) -> Iterator[LogReader]:
    from relaybroker.adapters.eventstore.errors import StateCorrupt
    from relaybroker.adapters.eventstore.reader import LogReader
    from relaybroker.domain.events import REGISTRY

    try:
        reader = LogReader.open(path, registry=REGISTRY)
        try:
            yield reader
        finally:
            reader.close()
    except StateCorrupt as error:
        fail(Exit.FAILED, f"the log is damaged: {error}. Nothing was changed. See: relaybroker log verify", error.code)
    except PermissionError as error:
        fail(Exit.REFUSED, f"the log cannot be read: {error}. It belongs to the user who runs the broker.")


@examples("relaybroker why 252234275435319297", "relaybroker why w1@17", "relaybroker why w1 --json")
@click.command()
@click.argument("identifier", shell_complete=completion.subjects)
@_place
@json_option
def why(identifier: str, state_dir: str | None, name: str, as_json: bool) -> None:
    """Say what happened to a message, delivery, AGENT@SEQ, invocation or agent, and why."""
    import msgspec

    from relaybroker.audit.verdicts import DELIVERED, PENDING

    stories = _stories(identifier, state_dir, name)
    if as_json:
        say_json([msgspec.to_builtins(story) for story in stories])
    else:
        for story in stories:
            _print_story(story)
    outcomes = {story.outcome for story in stories}
    if outcomes != {DELIVERED}:
        raise SystemExit(int(Exit.PENDING if PENDING in outcomes else Exit.NOT_DELIVERED))


def _stories(identifier: str, state_dir: str | None, name: str) -> list[Story]:
    """What the logs of a directory tell of something. Ends the command if they know nothing of it, or it is not clear what is meant."""
    from relaybroker.audit.finding import AmbiguousError, NotFoundError
    from relaybroker.audit.log import NoLog, journals_of
    from relaybroker.audit.story import tell

    try:
        journals = journals_of(state_directory(state_dir), name)
    except NoLog as error:
        fail(Exit.NOT_FOUND, f"{error}. Name the state directory with --state-dir")
    stories: list[Story] = []
    for path in journals.values():
        with _opened(path) as reader:
            try:
                stories += tell(reader, identifier)
            except NotFoundError:
                continue
            except AmbiguousError as error:
                fail(Exit.USAGE, f"{identifier!r} is ambiguous; it may be {error}")
    if not stories:
        fail(
            Exit.NOT_FOUND, f"the log has nothing about {identifier!r}. To list its deliveries: relaybroker delivery ls"
        )
    return stories


def _print_story(story: Story) -> None:
    say(telling.headline(story), bold=True)
    for line in telling.chain(story):
        say(line)
    say()


@click.group(cls=Group)
def delivery() -> None:
    """List and show deliveries, from the log."""


@examples("relaybroker delivery ls --agent w1 -n 10", "relaybroker delivery ls --state dead_lettered --json")
@delivery.command("ls")
@_place
@click.option("--state", "wanted", default="", help="Only deliveries in this state.", shell_complete=completion.states)
@click.option("--agent", default="", help="Only deliveries for this agent.", shell_complete=completion.agents)
@click.option("-n", "count", type=click.IntRange(1, LAST), default=50, show_default=True, help="The newest N.")
@json_option
def delivery_list(state_dir: str | None, name: str, wanted: str, agent: str, count: int, as_json: bool) -> None:
    """List the newest deliveries."""
    import msgspec

    from relaybroker.audit.deliveries import newest
    from relaybroker.domain.machines import MACHINES

    if wanted and wanted not in (states := MACHINES["delivery"].states):
        fail(
            Exit.USAGE,
            f"deliveries have no state {wanted!r}.{did_you_mean(wanted, states)} There are: {', '.join(states)}",
        )
    with _log(state_dir, name) as reader:
        rows = newest(reader, count, state=wanted, agent=agent)
        if agent and not rows:
            _check_agent(reader, agent)
    if as_json:
        say_json([msgspec.to_builtins(row) for row in rows])
        return
    shown = [
        (
            times.moment(row.offered_at),
            f"{row.agent}@{'-' if row.seq is None else row.seq}",
            row.state,
            _notes(row),
            row.msg_id,
            row.sender,
        )
        for row in rows
    ]
    empty = "No deliveries. Send a message: relaybroker message send AGENT TEXT"
    table(("OFFERED", "AGENT@SEQ", "STATE", "HOW", "MESSAGE", "FROM"), shown, empty=empty)


def _notes(row: Row) -> str:
    """What is to be said of a delivery beside its state."""
    notes = (
        row.reason or row.verification,
        "in custody" if row.in_custody else "",
        "given before the engine had it" if row.source == "local" else "",
    )
    return ", ".join(note for note in notes if note)


def _check_agent(reader: LogReader, name: str) -> None:
    """End the command if the log knows nobody of this name."""
    from relaybroker.audit.search import BadSearchError, check_agent

    try:
        check_agent(reader, name)
    except BadSearchError as error:
        fail(Exit.NOT_FOUND, str(error))


@examples("relaybroker delivery show w1@17")
@delivery.command("show")
@click.argument("identifier", shell_complete=completion.subjects)
@_place
@json_option
@click.pass_context
def delivery_show(context: click.Context, identifier: str, state_dir: str | None, name: str, as_json: bool) -> None:
    """Show the whole story of a delivery (same as `why`)."""
    context.invoke(why, identifier=identifier, state_dir=state_dir, name=name, as_json=as_json)


@click.group(cls=Group)
def log() -> None:
    """Follow, search, count, export, verify and archive the log."""


def _filters(command: Any) -> Any:
    for option, text, complete in reversed(_FILTERS):
        command = click.option(option, default="", help=text, shell_complete=complete)(command)
    return command


_FILTERS = (
    ("--machine", "Only events of this machine, e.g. delivery or node.", completion.machines),
    ("--stream", "Only streams that start with this, e.g. delivery: or agent:w1.", None),
    ("--topic", "Only this topic; * matches anything, e.g. 'delivery.*'.", completion.topics),
    ("--reason", "Only events with this reason.", completion.reasons),
    ("--agent", "Only events about the agent of this name.", completion.agents),
    ("--text", "Only events whose body contains this text.", None),
)


def _matching(reader: LogReader, wanted: Search) -> list[Recorded]:
    from relaybroker.audit.search import BadSearchError, search

    try:
        return search(reader, wanted)
    except BadSearchError as error:
        fail(Exit.USAGE, str(error))


@examples("relaybroker log tail -f", "relaybroker log tail -n 5 --topic 'delivery.*'", "relaybroker log tail --upkeep")
@log.command("tail")
@_place
@click.option(
    "-n", "count", type=click.IntRange(min=0, max=10_000), default=20, show_default=True, help="The newest N."
)
@click.option("-f", "--follow", is_flag=True, help="Keep following.")
@click.option(
    "--upkeep", is_flag=True, help="Include what keeps the link alive: heartbeats, inventories and their answers."
)
@_filters
@json_option
def log_tail(
    state_dir: str | None, name: str, count: int, follow: bool, upkeep: bool, as_json: bool, **filters: str
) -> None:
    """List the newest events, except those that only keep the link alive."""
    from relaybroker.audit.search import UPKEEP, Search

    hidden = () if upkeep or filters["topic"] else UPKEEP
    with _log(state_dir, name) as reader:
        last = reader.position
        for recorded in _matching(reader, Search(**filters, hidden=hidden, limit=count, newest=True)):  # type: ignore[arg-type] # all are text
            _print_event(recorded, as_json=as_json)
            last = max(last, recorded.version)
        while follow:
            time.sleep(_FOLLOW_S)
            for recorded in _matching(reader, Search(**filters, hidden=hidden, after=last, limit=1000)):  # type: ignore[arg-type] # all are text
                last = recorded.version
                _print_event(recorded, as_json=as_json)


_FOLLOW_S = 0.2
"""How often a followed log is looked at."""


@examples("relaybroker log grep --agent w1 --since 1h", "relaybroker log grep --reason expired --json")
@log.command("grep")
@_place
@_filters
@click.option(
    "--since",
    default="",
    help="Only events since this time: 2026-01-31T12:00:00 (local), or 15m for the last 15 minutes.",
)
@click.option("--until", default="", help="Only events up to this time.")
@click.option("--after", type=click.IntRange(0, LAST), default=0, help="Only events after this position.")
@click.option(
    "-n", "count", type=click.IntRange(min=1, max=10_000), default=1000, show_default=True, help="Show at most N."
)
@json_option
def log_grep(
    state_dir: str | None,
    name: str,
    since: str,
    until: str,
    after: int,
    count: int,
    as_json: bool,
    **filters: str,
) -> None:
    """List the events that match every filter, in order. Exit status 3 if there are none."""
    from relaybroker.audit.search import Search

    wanted = Search(**filters, since=moment(since), until=moment(until), after=after, limit=count)  # type: ignore[arg-type] # all are text
    with _log(state_dir, name) as reader:
        matches = _matching(reader, wanted)
    for recorded in matches:
        _print_event(recorded, as_json=as_json)
    if len(matches) == count:
        say(f"{count} events; there may be more: --after {matches[-1].version}", err=True)
    if not matches:
        fail(Exit.NOT_FOUND, "no event matches. For an overview of the log: relaybroker log stats")


@examples("relaybroker log show 1070")
@log.command("show")
@click.argument("position", type=click.IntRange(1, LAST))
@_place
@json_option
def log_show(position: int, state_dir: str | None, name: str, as_json: bool) -> None:
    """Show the complete event at a position, the fact that caused it, and what else followed from that fact."""
    from relaybroker.audit.search import exported, turn_of

    with _log(state_dir, name) as reader:
        together = turn_of(reader, position)
        last = reader.position
    if not together:
        fail(Exit.NOT_FOUND, f"the log has no position {position}; it ends at {last}")
    if as_json:
        say_json([exported(recorded) for recorded in together])
        return
    for recorded in together:
        if recorded.version != position:
            _print_event(recorded, as_json=False)
            continue
        say(f"#{position} {recorded.event.topic}", bold=True)
        event = exported(recorded)
        for key in ("stream", "kind", "causation", "correlation"):
            say(f"  {key:<12} {event[key]}")
        say(f"  {'at':<12} {times.moment(recorded.at)} ({times.iso(recorded.at)})")
        for key, value in event["body"].items():
            say(f"  {key:<12} {json.dumps(value, ensure_ascii=False)}")


@examples("relaybroker log stats")
@log.command("stats")
@_place
@json_option
def log_stats(state_dir: str | None, name: str, as_json: bool) -> None:
    """Show how many events there are, how many streams are in each state, and how often each reason occurred."""
    import msgspec

    from relaybroker.audit.statistics import as_lines, statistics

    with _log(state_dir, name) as reader:
        numbers = statistics(reader)
    if as_json:
        say_json(msgspec.to_builtins(numbers))
        return
    for line in as_lines(numbers):
        say(line)


def _print_event(recorded: Recorded, *, as_json: bool) -> None:
    from relaybroker.audit.search import exported

    event = exported(recorded)
    if as_json:
        say_json(event, indent=None)
    else:
        say(
            f"#{event['position']:<7} {times.moment(recorded.at)} {event['topic']:<32} {recorded.stream:<40} {detail(event['body'])[:160]}"
        )


@examples(
    "relaybroker log export -o log.jsonl",
    "relaybroker log export --session --redact -o incident.jsonl",
)
@log.command("export")
@_place
@click.option("--output", "-o", default="-", help="File to write, readable by its owner only; - for standard output.")
@click.option("--first", type=click.IntRange(1, LAST), default=1, help="First position.")
@click.option("--last", type=click.IntRange(1, LAST), help="Last position. Default: the end of the log.")
@click.option("--session", "as_session", is_flag=True, help="Write a session file for `relaybroker replay`.")
@click.option(
    "--redact",
    is_flag=True,
    help="With --session: replace message bodies with placeholders; equal bodies get equal placeholders.",
)
@click.option("--title", default="", help="With --session: the session's name.")
@click.option("--says", default="", help="With --session: a one-sentence description.")
def log_export(
    state_dir: str | None,
    name: str,
    output: str,
    first: int,
    last: int | None,
    as_session: bool,
    redact: bool,
    title: str,
    says: str,
) -> None:
    """Export the log, or part of it, as JSON Lines: its events, or with --session whole turns with their inputs."""
    from relaybroker.audit.search import exported

    if not as_session and (redact or title or says):
        fail(Exit.USAGE, "--redact, --title and --says need --session")
    with _log(state_dir, name) as reader, _private(output) as file:
        if as_session:
            _export_session(reader, file, first, last, redact=redact, title=title, says=says)
            return
        with progress("exporting", last or reader.position) as reader.watch:
            for _, recorded in reader.read(after=first - 1, upto=last):
                file.write(json.dumps(exported(recorded), ensure_ascii=False).encode() + b"\n")


@contextmanager
def _private(output: str) -> Iterator[IO[bytes]]:
    """Standard output, or a file that only its owner reads, whole or not at all."""
    from relaybroker.adapters.private_files import replacing

    if output == "-":
        yield sys.stdout.buffer
        return
    try:
        with replacing(Path(output)) as file:
            yield file
    except OSError as error:
        fail(Exit.FAILED, f"{output} cannot be written: {error.strerror or error}")


def _export_session(
    reader: LogReader, output: IO[bytes], first: int, last: int | None, *, redact: bool, title: str, says: str
) -> None:
    import tempfile

    from relaybroker.replay.exporting import export
    from relaybroker.replay.redaction import redact as without_bodies
    from relaybroker.replay.session import Session, SessionError

    with tempfile.TemporaryFile() as made:
        try:
            with progress("exporting", last or reader.position) as reader.watch:
                done = export(reader, made, first=first, last=last, name=title, says=says)
            made.seek(0)
            if redact:
                without_bodies(Session(made, "export"), output)
            else:
                shutil.copyfileobj(made, output)
        except SessionError as error:
            fail(Exit.FAILED, str(error))
    say(f"{done.turns} turns, positions {done.first} to {done.last}", err=True)


@examples("relaybroker log archive --keep 50000")
@log.command("archive")
@_place
@click.option(
    "--keep",
    type=click.IntRange(1000, LAST),
    default=100_000,
    show_default=True,
    help="Events to keep in the database.",
)
@json_option
def log_archive(state_dir: str | None, name: str, keep: int, as_json: bool) -> None:
    """Move all but the newest events into compressed JSON Lines files next to the database.

    Every command still reads both parts as one log. The broker may keep running; it also archives on its own (`[retention]`).
    """
    from relaybroker.adapters.eventstore.archiving import move
    from relaybroker.adapters.eventstore.errors import StateCorrupt
    from relaybroker.adapters.eventstore.mapper import Mapper
    from relaybroker.adapters.file_lock import LockHeldError
    from relaybroker.audit.log import NoLog, journal_of
    from relaybroker.domain.errors import CorruptLog
    from relaybroker.domain.events import REGISTRY

    try:
        journal = journal_of(state_directory(state_dir), name)
        with progress("archiving") as watch:
            moved = move(journal, Mapper(REGISTRY), keep=keep, watch=watch)
    except NoLog as error:
        fail(Exit.NOT_FOUND, f"{error}. Name the state directory with --state-dir")
    except LockHeldError:
        fail(Exit.REFUSED, "this log is already being archived. For its progress: relaybroker log stats")
    except (StateCorrupt, CorruptLog, OSError) as error:
        fail(Exit.FAILED, f"nothing was removed from the log: {error}")
    if as_json:
        say_json({"events": moved.events, "last": moved.last, "path": str(moved.path)}, indent=None)
    else:
        say(f"{moved.events} events archived; up to #{moved.last} the log is in {moved.path}")


@examples("relaybroker log verify")
@log.command("verify")
@_place
@json_option
def log_verify(state_dir: str | None, name: str, as_json: bool) -> None:
    """Check that the log is intact: order, topics, hash chain, and that it folds by the tables."""
    from relaybroker.audit.verification import verify

    with _log(state_dir, name) as reader:
        events = reader.position
        with progress("verifying", events) as reader.watch:
            verified = verify(reader)
    if as_json:
        facts = {"events": events, "folded": verified.state.position, "compared_at": verified.compared_at}
        say_json(facts | {"problems": verified.problems}, indent=None)
    elif verified.problems:
        for problem in verified.problems:
            say(problem, err=True)
    else:
        live = f", and at {verified.compared_at} to the state that the broker had" if verified.compared_at else ""
        say(f"{events} events verified: order, topics, hash chain and fold are sound{live}")
    if verified.problems:
        raise SystemExit(int(Exit.FAILED))


@click.group(cls=Group)
def machine() -> None:
    """Show the state machines."""


@examples("relaybroker machine ls")
@machine.command("ls")
@json_option
def machine_list(as_json: bool) -> None:
    """List the machines and their states."""
    from relaybroker.domain.machines import MACHINES

    if as_json:
        shown = {one.name: {"states": list(one.states), "terminal": sorted(one.terminal)} for one in MACHINES.values()}
        say_json(shown)
        return
    rows = [
        (one.name, ", ".join(f"[{state}]" if state in one.terminal else state for state in one.states))
        for one in MACHINES.values()
    ]
    table(("MACHINE", "STATES"), rows)


@examples("relaybroker machine show delivery", "relaybroker machine show link --mermaid")
@machine.command("show")
@click.argument("name", shell_complete=completion.machines)
@click.option("--mermaid", is_flag=True, help="Only the diagram.")
@json_option
def machine_show(name: str, mermaid: bool, as_json: bool) -> None:
    """Show one machine: its rules, what can happen in each state, and what other machines do to it."""
    from relaybroker.domain.couplings import COUPLINGS
    from relaybroker.domain.machines import MACHINES

    fits = [known for known in MACHINES if known.startswith(name)]
    if len(fits) != 1:
        near = did_you_mean(name, list(MACHINES))
        fail(Exit.NOT_FOUND, f"no machine named {name!r}.{near} There are: {', '.join(MACHINES)}")
    chosen = MACHINES[fits[0]]
    if as_json:
        edges = [
            {"from": source, "trigger": trigger, "to": target} for (source, trigger), target in chosen.edges.items()
        ]
        say_json({"name": chosen.name, "states": chosen.states, "edges": edges})
    elif mermaid:
        for line in chosen.mermaid().splitlines():
            say(line)
    else:
        for line in (*chosen.rules.splitlines(), ""):
            say(line)
        for state in chosen.states:
            exits = chosen.leaving(state)
            say(state if exits else f"{state}  (final)")
            for trigger, target in exits:
                say(f"  {trigger:<14} -> {target}")
        for row in (row for row in COUPLINGS if row.table is chosen):
            states = ", ".join(state for state in chosen.states if state in row.states)
            say(f"When {row.when}, in {states}: {row.trigger}, {row.then}{'; but ' + row.but if row.but else ''}.")

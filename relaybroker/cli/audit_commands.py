"""Commands that read the log: why, delivery, log, machine. They work whether the broker runs or not."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from relaybroker.audit import telling
from relaybroker.audit.telling import clock, detail
from relaybroker.cli.client import state_directory
from relaybroker.cli.completion import MESSAGES
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.moments import moment
from relaybroker.cli.names import must_be
from relaybroker.cli.output import say, say_json

if TYPE_CHECKING:
    from relaybroker.adapters.eventstore.reader import LogReader
    from relaybroker.audit.search import Search
    from relaybroker.domain.events import Recorded
    from relaybroker.domain.story import Story


def _place(command: Any) -> Any:
    command = click.option("--name", default="", help="Which broker, if the directory has several.")(command)
    return click.option("--state-dir", metavar="DIR", help="Where the broker keeps its state.")(command)


@contextmanager
def _log(state_dir: str | None, name: str) -> Iterator[LogReader]:
    from relaybroker.adapters.eventstore.errors import StateCorrupt
    from relaybroker.audit.log import NoLog, reading

    try:
        with reading(state_directory(state_dir), name) as reader:
            yield reader
    except NoLog as error:
        fail(Exit.NOT_FOUND, f"{error}. Name the state directory with --state-dir")
    except StateCorrupt as error:
        fail(Exit.FAILED, f"the log is damaged: {error}. Nothing was changed; see: relaybroker log verify")


@click.command()
@click.argument("identifier", shell_complete=MESSAGES)
@_place
@click.option("--json", "as_json", is_flag=True)
def why(identifier: str, state_dir: str | None, name: str, as_json: bool) -> None:
    """Say what became of a message, delivery, AGENT@SEQ, invocation or agent, and why."""
    import msgspec

    from relaybroker.audit.finding import AmbiguousError, NotFoundError
    from relaybroker.audit.story import tell
    from relaybroker.audit.verdicts import DELIVERED, PENDING

    with _log(state_dir, name) as reader:
        try:
            stories = tell(reader, identifier)
        except NotFoundError:
            fail(
                Exit.NOT_FOUND, f"the log knows nothing of {identifier!r}. List what it knows: relaybroker delivery ls"
            )
        except AmbiguousError as error:
            fail(Exit.USAGE, f"{identifier!r} may be any of {error}")
    if as_json:
        say_json([msgspec.to_builtins(story) for story in stories])
    else:
        for story in stories:
            _print_story(story)
    outcomes = {story.outcome for story in stories}
    if outcomes != {DELIVERED}:
        raise SystemExit(int(Exit.PENDING if PENDING in outcomes else Exit.NOT_DELIVERED))


def _print_story(story: Story) -> None:
    say(telling.headline(story), bold=True)
    for line in telling.chain(story):
        say(line)
    say()


@click.group()
def delivery() -> None:
    """List and show deliveries, from the log."""


@delivery.command("ls")
@_place
@click.option("--state", "wanted", default="", help="Only deliveries in this state.")
@click.option("--agent", default="", help="Only deliveries for this agent.")
@click.option("-n", "count", type=click.IntRange(min=1), default=50, show_default=True, help="The newest N.")
@click.option("--json", "as_json", is_flag=True)
def delivery_list(state_dir: str | None, name: str, wanted: str, agent: str, count: int, as_json: bool) -> None:
    """The newest deliveries."""
    import msgspec

    from relaybroker.audit.deliveries import newest
    from relaybroker.audit.search import BadSearchError, check_agent
    from relaybroker.domain.delivery import State

    if wanted:
        must_be("state of a delivery", wanted, State, otherwise=Exit.USAGE)
        wanted = wanted.lower()
    with _log(state_dir, name) as reader:
        if agent:
            try:
                check_agent(reader, agent)
            except BadSearchError as error:
                fail(Exit.NOT_FOUND, str(error))
        rows = newest(reader, count, state=wanted, agent=agent)
    if as_json:
        say_json([msgspec.to_builtins(row) for row in rows])
        return
    for row in rows:
        number = f"{row.agent}@{'-' if row.seq is None else row.seq}"
        how = " ".join(
            part for part in (row.reason or row.verification, "in custody" if row.in_custody else "") if part
        )
        say(f"{clock(row.offered_at)}  {number:<24} {row.state:<14} {how:<18} {row.msg_id}  from {row.sender}")


@delivery.command("show")
@click.argument("identifier")
@_place
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def delivery_show(context: click.Context, identifier: str, state_dir: str | None, name: str, as_json: bool) -> None:
    """The whole story of a delivery (the same as `why`)."""
    context.invoke(why, identifier=identifier, state_dir=state_dir, name=name, as_json=as_json)


@click.group()
def log() -> None:
    """Follow, search, count, export, verify and archive the log."""


def _filters(command: Any) -> Any:
    for option, text in reversed(_FILTERS):
        command = click.option(option, default="", help=text)(command)
    return command


_FILTERS = (
    ("--machine", "Only events of this machine, e.g. delivery or node."),
    ("--stream", "Only streams that begin so, e.g. delivery: or agent:w1."),
    ("--topic", "Only this topic, * for any letters, e.g. 'delivery.*'."),
    ("--reason", "Only events with this reason."),
    ("--agent", "Only what concerns an agent of this name."),
    ("--text", "Only events whose body has this text."),
)


def _found(reader: LogReader, wanted: Search) -> list[Recorded]:
    from relaybroker.audit.search import BadSearchError, search

    try:
        return search(reader, wanted)
    except BadSearchError as error:
        fail(Exit.USAGE, str(error))


@log.command("tail")
@_place
@click.option(
    "-n", "count", type=click.IntRange(min=0, max=10_000), default=20, show_default=True, help="The newest N."
)
@click.option("-f", "--follow", is_flag=True)
@_filters
@click.option("--json", "as_json", is_flag=True)
def log_tail(state_dir: str | None, name: str, count: int, follow: bool, as_json: bool, **filters: str) -> None:
    """The newest events."""
    from relaybroker.audit.search import Search

    with _log(state_dir, name) as reader:
        last = reader.position
        for recorded in _found(reader, Search(**filters, limit=count, newest=True)):  # type: ignore[arg-type] # all are text
            _print_event(recorded, as_json=as_json)
            last = max(last, recorded.version)
        while follow:
            time.sleep(_FOLLOW_S)
            for recorded in _found(reader, Search(**filters, after=last, limit=1000)):  # type: ignore[arg-type] # all are text
                last = recorded.version
                _print_event(recorded, as_json=as_json)


_FOLLOW_S = 0.2
"""How often a followed log is looked at."""


@log.command("grep")
@_place
@_filters
@click.option(
    "--since",
    default="",
    help="Only events from then on: 2026-01-31T12:00:00 (UTC), or 15m = a quarter of an hour ago.",
)
@click.option("--until", default="", help="Only events up to then.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only events behind this position.")
@click.option("-n", "count", type=click.IntRange(min=1, max=10_000), default=1000, show_default=True, help="At most N.")
@click.option("--json", "as_json", is_flag=True)
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
    """Events that fit every filter, in order. Exit status 3 when there are none."""
    from relaybroker.audit.search import Search

    now = time.time()
    wanted = Search(**filters, since=moment(since, now), until=moment(until, now), after=after, limit=count)  # type: ignore[arg-type] # all are text
    with _log(state_dir, name) as reader:
        found = _found(reader, wanted)
    for recorded in found:
        _print_event(recorded, as_json=as_json)
    if len(found) == count:
        say(f"{count} events; more may follow: --after {found[-1].version}", err=True)
    if not found:
        raise SystemExit(int(Exit.NOT_FOUND))


@log.command("show")
@click.argument("position", type=click.IntRange(min=1))
@_place
@click.option("--json", "as_json", is_flag=True)
def log_show(position: int, state_dir: str | None, name: str, as_json: bool) -> None:
    """The event at a position, whole, with the fact that caused it and what else followed from that."""
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
        found = exported(recorded)
        for key in ("stream", "kind", "causation", "correlation"):
            say(f"  {key:<12} {found[key]}")
        say(f"  {'at':<12} {datetime.fromtimestamp(recorded.at, UTC).isoformat()}")
        for key, value in found["body"].items():
            say(f"  {key:<12} {json.dumps(value, ensure_ascii=False)}")


@log.command("stats")
@_place
@click.option("--json", "as_json", is_flag=True)
def log_stats(state_dir: str | None, name: str, as_json: bool) -> None:
    """How many events, in which states what is, and how often each reason was given."""
    import msgspec

    from relaybroker.audit.statistics import as_lines, statistics

    with _log(state_dir, name) as reader:
        found = statistics(reader)
    if as_json:
        say_json(msgspec.to_builtins(found))
        return
    for line in as_lines(found):
        say(line)


def _print_event(recorded: Recorded, *, as_json: bool) -> None:
    from relaybroker.audit.search import exported

    found = exported(recorded)
    if as_json:
        say_json(found, indent=None)
    else:
        say(
            f"#{found['position']:<7} {clock(recorded.at)} {found['topic']:<32} {recorded.stream:<40} {detail(found['body'])[:160]}"
        )


@log.command("export")
@_place
@click.option("--output", "-o", type=click.File("wb"), default="-", help="File to write; - = standard output.")
@click.option("--first", type=click.IntRange(min=1), default=1, help="From this position on.")
@click.option("--last", type=click.IntRange(min=1), help="Up to this position; the log's end unless it is given.")
@click.option("--session", "as_session", is_flag=True, help="As a session file, which `relaybroker replay` can play.")
@click.option(
    "--redact", is_flag=True, help="With --session: without bodies; the same body becomes the same placeholder."
)
@click.option("--title", default="", help="With --session: its name.")
@click.option("--says", default="", help="With --session: a sentence about it.")
def log_export(
    state_dir: str | None,
    name: str,
    output: Any,
    first: int,
    last: int | None,
    as_session: bool,
    redact: bool,
    title: str,
    says: str,
) -> None:
    """The log, or a part of it, as JSON lines: its events, or with --session whole turns with their inputs."""
    from relaybroker.audit.search import exported

    if not as_session and (redact or title or says):
        fail(Exit.USAGE, "--redact, --title and --says are about a session: add --session")
    with _log(state_dir, name) as reader:
        if as_session:
            _export_session(reader, output, first, last, redact=redact, title=title, says=says)
            return
        for _, recorded in reader.read(after=first - 1, upto=last):
            output.write(json.dumps(exported(recorded), ensure_ascii=False).encode() + b"\n")


def _export_session(
    reader: LogReader, output: Any, first: int, last: int | None, *, redact: bool, title: str, says: str
) -> None:
    import tempfile

    from relaybroker.replay.exporting import export
    from relaybroker.replay.redaction import redact as without_bodies
    from relaybroker.replay.session import Session, SessionError

    with tempfile.TemporaryFile() as made:
        try:
            done = export(reader, made, first=first, last=last, name=title, says=says)
            made.seek(0)
            if redact:
                without_bodies(Session(made, "export"), output)
            else:
                shutil.copyfileobj(made, output)
        except SessionError as error:
            fail(Exit.FAILED, str(error))
    say(f"{done.turns} turns, positions {done.first} to {done.last}", err=True)


@log.command("archive")
@_place
@click.option(
    "--keep",
    type=click.IntRange(min=1000),
    default=100_000,
    show_default=True,
    help="Events that stay in the database.",
)
@click.option("--json", "as_json", is_flag=True)
def log_archive(state_dir: str | None, name: str, keep: int, as_json: bool) -> None:
    """Move all but the newest events into compressed JSON lines beside the database.

    The log stays one log: every command reads both parts. The broker must be stopped.
    """
    from relaybroker.adapters.eventstore.archiving import move
    from relaybroker.adapters.eventstore.errors import StateCorrupt, StateLocked
    from relaybroker.adapters.eventstore.lock import StateLock
    from relaybroker.adapters.eventstore.mapper import Mapper
    from relaybroker.audit.log import NoLog, journal_of
    from relaybroker.domain.errors import CorruptLog
    from relaybroker.domain.events import REGISTRY

    try:
        journal = journal_of(state_directory(state_dir), name)
        lock = StateLock(journal.with_name(f"broker-{journal.stem.removeprefix('journal-')}.lock"))
    except NoLog as error:
        fail(Exit.NOT_FOUND, f"{error}. Name the state directory with --state-dir")
    except StateLocked:
        fail(Exit.REFUSED, "a broker works with this log. Stop it first: relaybroker down")
    try:
        moved = move(journal, Mapper(REGISTRY), keep=keep)
    except (StateCorrupt, CorruptLog, OSError) as error:
        fail(Exit.FAILED, f"nothing was removed from the log: {error}")
    finally:
        lock.release()
    if as_json:
        say_json({"events": moved.events, "last": moved.last, "path": str(moved.path)}, indent=None)
    else:
        say(f"{moved.events} events archived; up to #{moved.last} the log is in {moved.path}")


@log.command("verify")
@_place
@click.option("--json", "as_json", is_flag=True)
def log_verify(state_dir: str | None, name: str, as_json: bool) -> None:
    """Check that the log is whole: order, topics, hash chain, and that it folds by the tables."""
    from relaybroker.audit.verification import verify

    with _log(state_dir, name) as reader:
        found = verify(reader)
        events = reader.position
    if as_json:
        facts = {"events": events, "folded": found.state.position, "compared_at": found.compared_at}
        say_json(facts | {"problems": found.problems}, indent=None)
    elif found.problems:
        for problem in found.problems:
            say(problem, err=True)
    else:
        live = f", and at {found.compared_at} to the state that the broker had" if found.compared_at else ""
        say(f"{events} events: order, topics, hash chain and fold are as they must be{live}")
    if found.problems:
        raise SystemExit(int(Exit.FAILED))


@click.group()
def machine() -> None:
    """Show the state machines."""


@machine.command("ls")
@click.option("--json", "as_json", is_flag=True)
def machine_list(as_json: bool) -> None:
    """Every machine with its states."""
    from relaybroker.domain.machines import MACHINES

    if as_json:
        shown = {
            table.name: {"states": table.states, "terminal": sorted(table.terminal)} for table in MACHINES.values()
        }
        say_json(shown)
        return
    for table in MACHINES.values():
        states = ", ".join(f"[{state}]" if state in table.terminal else state for state in table.states)
        say(f"{table.name:<20} {states}")


@machine.command("show")
@click.argument("name")
@click.option("--mermaid", is_flag=True, help="Only the diagram.")
@click.option("--json", "as_json", is_flag=True)
def machine_show(name: str, mermaid: bool, as_json: bool) -> None:
    """One machine: its rules, its table, its diagram."""
    from relaybroker.domain.machines import MACHINES

    fits = [known for known in MACHINES if known.startswith(name)]
    if len(fits) != 1:
        fail(Exit.NOT_FOUND, f"no single machine begins with {name!r}; there are: {', '.join(MACHINES)}")
    table = MACHINES[fits[0]]
    if as_json:
        edges = [
            {"from": source, "trigger": trigger, "to": target} for (source, trigger), target in table.edges.items()
        ]
        say_json({"name": table.name, "states": table.states, "edges": edges})
    elif mermaid:
        for line in table.mermaid().splitlines():
            say(line)
    else:
        for line in (*table.rules.splitlines(), ""):
            say(line)
        for (source, trigger), target in table.edges.items():
            say(f"  {source:<16} {trigger:<14} -> {target}")

"""What this program answers about a log, as JSON: for comparing versions of it. Run as it is, or by `tests.versions.newer`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner

from relaybroker.adapters.eventstore import earlier_events, recorders
from relaybroker.adapters.eventstore.archiving import move
from relaybroker.adapters.eventstore.integrity import verify
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.audit.questions import Questions
from relaybroker.cli.app import cli
from relaybroker.domain.events import REGISTRY, Recorded
from relaybroker.domain.machines import MACHINES
from relaybroker.domain.reasons import Reason
from relaybroker.replay.session import open_session
from tests.replay import recordings

JOURNAL = "journal-desk.sqlite"
ARCHIVED_BUT = 20
"""Events that stay in the database."""


def main(words: list[str]) -> None:
    """`TASK ARGUMENT…`: call it, and print what it returns."""
    task, *arguments = words
    tasks: tuple[Callable[..., Any], ...] = (write, ask, play, topics, archive, opened, findings)
    called = {one.__name__: one for one in tasks}[task]
    print(json.dumps(called(*arguments)))


def topics() -> list[str]:
    """Every topic of this version."""
    return list(REGISTRY)


# --- writing ----------------------------------------------------------------------------------------------------------------------------


def write(directory: str, source: str, part: str = "whole") -> int:
    """Write a log in this version's forms: `forms` = every pinned form, in a stream of its machine; else a recording.

    `part`: `whole`, or the `first` half of it, or the `second` behind what is there.
    """
    path = Path(directory) / JOURNAL
    records = every_form() if source == "forms" else recording(source)
    if part != "second":
        recorders.create_sqlite(path)
    half = len(records) // 2
    records = {"whole": records, "first": records[:half], "second": records[half:]}[part]
    with closing(recorders.open_sqlite(path)) as recorder:
        mapper, rows = Mapper(REGISTRY), []
        chain = LogReader(recorder, mapper, path).chain_at(records[0].version - 1)
        assert chain is not None
        for recorded in records:
            row, chain = mapper.to_stored(recorded, chain)
            rows.append(row)
        recorder.insert_events(rows)
        recorder.checkpoint()
    return len(rows)


def recording(name: str) -> list[Recorded]:
    """The events of a recorded session."""
    with open_session(recordings.path_of(name)) as session:
        return [recorded for turn in session for recorded in turn.events]


def every_form() -> list[Recorded]:
    """Each pinned form as this version reads it, twice over with different ids, in streams named as the core names them."""
    forms = Path(__file__).parents[2] / "fixtures" / "log" / "forms.jsonl"
    mapper, records = Mapper(REGISTRY), []
    lines = [line for line in map(json.loads, forms.read_text("utf-8").splitlines()) if "topic" in line]
    for round_ in ("one", "two"):
        for line in sorted(lines, key=lambda line: (not _begins(line["topic"]), line["topic"])):
            body = json.dumps(_named(line["body"], f"text-{round_}"))
            event = mapper.to_event(line["topic"], body.encode(), 0, "")
            version = len(records) + 1
            stream = f"{event.machine}:{_names(event.machine, round_)}"
            records.append(
                Recorded(
                    stream=stream,
                    version=version,
                    at=float(version),
                    causation=f"{stream}@{version}",
                    correlation=f"text-{round_}",
                    event=event,
                    input_json=b'{"type":"TimePassed"}',
                )
            )
    return records


def _named(value: Any, name: str) -> Any:
    """A pinned value with this name for every `text` in it."""
    if isinstance(value, dict):
        return {key: _named(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner, name) for inner in value]
    return name if value == "text" else value


def _begins(topic: str) -> bool:
    births = (
        "delivery.offered.",
        "agent.name_reserved.",
        "worker.launched.",
        "action.received.",
        "message.accepted.",
        "link.begun.",
    )
    return topic.startswith(births)


def _names(machine: str, round_: str) -> str:
    return {"agent": f"text-{round_}:7", "delivery": f"text-{round_}"}.get(machine, f"text-{round_}")


def archive(directory: str, keep: str) -> int:
    """Archive all but the last events of a log."""
    from relaybroker.adapters.eventstore import archiving

    archiving.KEEP_EVENTS = 1
    return move(Path(directory) / JOURNAL, Mapper(REGISTRY), keep=int(keep)).events


def opened(directory: str) -> list[int]:
    """Open a log for writing, as a broker does: positions of which it then has a copy in today's form."""
    with closing(recorders.open_sqlite(Path(directory) / JOURNAL)) as recorder:
        if not recorder.query("SELECT 1 FROM sqlite_schema WHERE name = 'earlier_events'"):
            return []
        return [row["position"] for row in recorder.query("SELECT position FROM earlier_events ORDER BY position")]


def findings(directory: str) -> list[str]:
    """What is wrong with a log and what is derived from it."""
    with closing(LogReader.open(Path(directory) / JOURNAL, registry=REGISTRY)) as log:
        return [str(one) for one in verify(log)]


# --- asking -----------------------------------------------------------------------------------------------------------------------------


def ask(directory: str, state: str) -> dict[str, Any]:
    """Every answer: of the commands, of the local API's questions, and of the views.

    `state` is how the log is found: `read` as it is, `opened` for writing first, as by a broker, or `archived` but for its end.
    """
    path = Path(directory) / JOURNAL
    if state == "opened":
        opened(directory)
    if state == "archived":
        assert archive(directory, str(ARCHIVED_BUT))
    known = _identifiers(path)
    return {
        "commands": {" ".join(words): _command(directory, *words) for words in _questions(path, known)},
        "http": asyncio.run(_http(path, known)),
        "views": _views(path),
        "read": _records(path),
    }


def _questions(path: Path, known: list[str]) -> list[tuple[str, ...]]:
    last = len(_records(path))
    return [
        *(("why", one, "--json") for one in known),
        *(("delivery", "show", one, "--json") for one in known[:3]),
        ("delivery", "ls", "--json"),
        *(("delivery", "ls", "--state", state, "--json") for state in MACHINES["delivery"].states),
        ("log", "stats", "--json"),
        ("log", "verify", "--json"),
        ("log", "export"),
        ("log", "export", "--session"),
        ("log", "tail", "--json", "-n", "200"),
        *(("log", "show", str(position), "--json") for position in range(1, last + 1, max(1, last // 6))),
        *(("log", "grep", "--topic", topic, "--json") for topic in sorted({_plain(topic) for topic in REGISTRY})[::6]),
        *(("log", "grep", "--machine", name, "--json") for name in sorted({one.machine for one in REGISTRY.values()})),
        *(("log", "grep", "--reason", reason, "--json") for reason in list(Reason)[:6]),
        *(("log", "grep", "--agent", one, "--json") for one in known if ":" not in one),
        *(("log", "grep", "--text", text, "--json") for text in ("text-one", "M1", "duplicate", '"until')),
        ("log", "grep", "--since", "1970-01-01T00:00:05", "--until", "1970-01-01T00:01:00", "--json"),
        ("log", "grep", "--stream", "delivery:", "--json"),
    ]


def _plain(topic: str) -> str:
    return f"{topic.rpartition('.v')[0]}.v*"


def _command(directory: str, *words: str) -> Any:
    done = CliRunner().invoke(cli, [*words, "--state-dir", directory])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return [done.exit_code, done.output]


async def _http(path: Path, known: list[str]) -> list[Any]:
    from relaybroker.domain.errors import InvalidRequest

    recorder = recorders.open_reader(path)
    answers: list[Any] = []
    with closing(LogReader(recorder, Mapper(REGISTRY), path)) as log:
        questions = Questions(log, Path())
        for one in known:
            try:
                answers.append(msgspec.to_builtins(await questions.why(one)))
            except InvalidRequest as error:
                answers.append(str(error))
        wanted: tuple[dict[str, Any], ...] = (
            {"machine": "delivery"},
            {"text": "text-two"},
            {"newest": True, "limit": 7},
        )
        return answers + [await questions.search(**filters) for filters in wanted]


def _identifiers(path: Path) -> list[str]:
    """Streams, and all that a person would call them."""
    ids: dict[str, None] = {"node": None, "nobody": None}
    for recorded in _read(path):
        kind, _, rest = recorded.stream.partition(":")
        ids[recorded.stream] = None
        ids[rest.partition("#")[0].partition(":")[0]] = None
        event = recorded.event
        for name in ("msg_id", "message_id", "delivery_id", "invocation_id"):
            if value := getattr(event, name, None):
                ids[value] = None
        if kind == "delivery" and hasattr(event, "name"):
            ids[f"{event.name}@{event.seq}"] = None
    return [one for one in ids if one]


def _read(path: Path) -> list[Recorded]:
    with closing(LogReader.open(path, registry=REGISTRY)) as log:
        return [recorded for _, recorded in log.read()]


def _records(path: Path) -> list[Any]:
    return [
        [one.stream, one.version, one.event.topic, json.loads(msgspec.json.encode(one.event))] for one in _read(path)
    ]


def _views(path: Path) -> dict[str, Any]:
    """What every view says; as the database has it, when this version has opened it for writing."""
    with closing(LogReader.open(path, registry=REGISTRY)) as log:
        rows = {}
        for kind, name, _ in earlier_events.definitions():
            if kind != "view":
                continue
            if name == "v_log":
                statement = "SELECT position, originator_id, originator_version, topic FROM v_log ORDER BY position"
            else:
                statement = f"SELECT * FROM {name} ORDER BY 1, 2"
            if name == "v_events" and log.archive.last:
                continue
            rows[name] = [list(row) for row in log.query(statement)]
        return rows


def play() -> dict[str, Any]:
    """Every recording, decided again."""
    return {
        path.stem: [len(outcome.differences), outcome.events]
        for path in sorted(recordings.FOLDER.glob("*.jsonl"))
        for outcome in [recordings.play(path)]
    }


if __name__ == "__main__":
    main(sys.argv[1:])

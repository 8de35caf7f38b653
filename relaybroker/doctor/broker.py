"""The broker of a state directory: its log, its processes, its answers, its link."""

from __future__ import annotations

import email.utils
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from relaybroker import __version__
from relaybroker.adapters.eventstore.errors import StateCorrupt, StateLocked
from relaybroker.adapters.eventstore.lock import StateLock
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.adapters.http.proof import proves
from relaybroker.adapters.sessions.host import living_hosts
from relaybroker.audit.log import NoLog, journals_of
from relaybroker.audit.times import length
from relaybroker.config.connection_file import Connection
from relaybroker.config.connection_file import read as read_connection
from relaybroker.doctor.findings import Finding, broken, doubtful, ok
from relaybroker.domain.errors import CorruptLog
from relaybroker.domain.events import REGISTRY

ASK_S = 3.0
SKEW_S = 60.0
"""A clock that differs more from the engine's makes ages and expiries wrong."""
WAL_LARGE = 256 * 2**20
LARGE = 2 * 2**30
"""Bytes of a database that somebody should archive."""


def log(state: Path) -> Iterator[Finding]:
    """Every log of the directory: readable, its newest part whole, not too large, held by nobody else."""
    try:
        journals = journals_of(state)
    except NoLog:
        return
    for name, path in journals.items():
        subject = f"log {name}"
        try:
            reader = LogReader.open(path, registry=REGISTRY)
            try:
                last = reader.position
                for _ in reader.read(after=max(reader.archive.last, last - 1000)):
                    pass
            finally:
                reader.close()
        except (StateCorrupt, CorruptLog, OSError) as error:
            yield broken(subject, f"{path}: {error}", "keep every file as it is and run: relaybroker log verify")
            continue
        size, wal = path.stat().st_size, _size(path.with_name(f"{path.name}-wal"))
        says = f"{last} events, {size / 2**20:.1f} MiB in {path.name}; the newest 1000 are intact"
        if size > LARGE:
            yield doubtful(subject, says, "relaybroker log archive")
        elif wal > WAL_LARGE:
            yield doubtful(
                subject,
                f"{says}; its WAL has {wal / 2**20:.0f} MiB: another program keeps the log open",
                "see who: lsof",
            )
        else:
            yield ok(subject, says)
        yield from _foreign(subject, path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _foreign(subject: str, journal: Path) -> Iterator[Finding]:
    """Programs that have the log open and are no broker of ours."""
    for process in psutil.process_iter(["name", "cmdline"]):
        try:
            opened = {file.path for file in process.open_files()}
        except (psutil.Error, OSError):
            continue
        words = " ".join(process.info["cmdline"] or ())
        if str(journal.resolve()) in opened and "relaybroker" not in words:
            says = f"{process.info['name']} (pid {process.pid}) has the log open and may lock it"
            yield doubtful(subject, says, f"end it: kill {process.pid}")


def processes(state: Path) -> Iterator[Finding]:
    """Who holds the directory's locks, and what runs without a broker."""
    held = [path for path in sorted(state.glob("broker-*.lock")) if _is_held(path)]
    hosts = living_hosts.hosts_in(state.resolve())
    for path in held:
        yield ok("broker", f"{path.stem.removeprefix('broker-')} runs, pid {path.read_text(encoding='ascii').strip()}")
    if hosts and not held:
        says = f"a PTY host (pid {hosts[0]}) and its agents are running without a broker"
        yield doubtful("host", says, "take it over: relaybroker up --detach; or end it: relaybroker down")
    elif hosts:
        yield ok("host", f"pid {', '.join(map(str, hosts))}")
    elif held:
        yield broken(
            "host", "the broker has no PTY host: nothing can be typed", "relaybroker log tail --topic 'host.*'"
        )
    connection = read_connection(state / "connection.json")
    if connection is not None and not held:
        yield doubtful(
            "broker", "connection.json belongs to a broker that is gone", "start it again: relaybroker up --detach"
        )


def _is_held(path: Path) -> bool:
    try:
        StateLock(path).release()
    except StateLocked:
        return True
    except OSError:
        return False
    return False


def answers(state: Path) -> Iterator[Finding]:
    """What the running broker says: version, link, agents that wait, the engine's clock."""
    connection = read_connection(state / "connection.json")
    if connection is None:
        return
    try:
        if not proves(connection.url, connection.api_key, ASK_S):
            yield broken(
                "api", f"another program listens at {connection.url}", "start the broker: relaybroker up --detach"
            )
            return
        session, status = (_ask(connection, path) for path in ("/api/session", "/api/status"))
    except (OSError, ValueError, http.client.HTTPException) as error:
        yield broken("api", f"{connection.url} does not answer: {error}", "relaybroker down; relaybroker up --detach")
        return
    version = session["broker_version"]
    if version == __version__:
        yield ok("api", f"{connection.url}, version {version}")
    else:
        yield doubtful(
            "api", f"the broker has version {version}, this command {__version__}", "relaybroker service restart"
        )
    yield from _link(status["link"])
    yield from _agents(status)
    if status["node"]:
        yield from _engine(status["node"]["engine"])


def _ask(connection: Connection, path: str) -> Any:
    target = urlsplit(connection.url)
    asked = http.client.HTTPConnection(target.hostname or "", target.port, timeout=ASK_S)
    try:
        asked.request("GET", path, headers={"X-API-Key": connection.api_key})
        answer = asked.getresponse()
        if answer.status != 200:
            raise ValueError(f"{path} is answered with {answer.status}")
        return json.loads(answer.read())
    finally:
        asked.close()


def _link(link: dict[str, Any]) -> Iterator[Finding]:
    since = length(link["since_secs"] or 0.0)
    if link["state"] == "online":
        yield ok("link", f"online for {since}")
    elif link["state"] == "refused":
        says = f"the engine refuses this node: {link['reason']}, {link['detail']}"
        yield broken("link", says, "check RELAY_WORKSPACE_KEY and RELAY_NODE_TOKEN; relaybroker why node")
    else:
        says = f"{link['state']} for {since}: {link['reason'] or 'no reason yet'} {link['detail']}".rstrip()
        yield broken("link", says, "relaybroker why node")


def _agents(status: dict[str, Any]) -> Iterator[Finding]:
    for row in status["agents"]:
        subject = f"agent {row['name']}"
        if row["blocked_by"]:
            yield doubtful(subject, f"asks a question: {row['blocked_by']}", f"relaybroker agent answer {row['name']}")
        elif row["deaf_since_secs"]:
            wait = "1 message is" if row["waiting"] == 1 else f"{row['waiting']} messages are"
            silent = length(row["deaf_since_secs"])
            says = f"{wait} waiting, and nothing was typed for {silent}: {row['waiting_reason']}"
            yield doubtful(subject, says, f"relaybroker agent show {row['name']}")
    if many := status["dead_letter_count"]:
        yield doubtful("dead letters", f"{many} messages could not be typed", "relaybroker dead-letters ls")


def _engine(base_url: str) -> Iterator[Finding]:
    target = urlsplit(base_url)
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    asked = kind(target.hostname or "", target.port, timeout=ASK_S)
    try:
        asked.request("GET", "/health")
        date = asked.getresponse().getheader("Date")
    except (OSError, http.client.HTTPException) as error:
        yield broken("engine", f"{base_url} does not answer: {error}", "check the address and the network")
        return
    finally:
        asked.close()
    skew = abs(time.time() - email.utils.parsedate_to_datetime(date).timestamp()) if date else 0.0
    if skew > SKEW_S:
        yield doubtful(
            "clock",
            f"this machine's clock differs by {length(skew)} from the engine's",
            "set it: timedatectl set-ntp true",
        )
    else:
        yield ok("engine", f"{base_url} answers")

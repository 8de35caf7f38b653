"""The door `claude_inbox`: the Unix socket on which a Claude Code in its terminal takes messages of other sessions.

Claude Code writes nothing back. That it took a message is seen in its transcript, in a row whose origin has our id: a user row,
or, where it was folded into a running turn, the attachment of a queued command. Two hooks, given in `--settings` (so that no file
of the user changes), append to `notes`: each start of a session with its socket, its key and its transcript, and each prompt just
before the model gets it. The transcript is written some 0.1 s after that; what a Claude Code that was killed in between had begun,
only the second hook tells.
Source: ADR-0093, ADR-0091; every fact is held by tests/agents/test_door_facts.py against the real program.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from relaybroker.adapters.sessions.claude_settings import has_settings, hooked
from relaybroker.adapters.sessions.door import (
    Absent,
    Accepted,
    Door,
    Evidence,
    NotHandedOver,
    Opened,
    PassedOver,
    Unknowable,
    message_id,
)
from relaybroker.adapters.sessions.rows import Row, Rows, append, inner, pauses, read_row
from relaybroker.adapters.unix_address import address_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relaybroker.adapters.sessions.door import DoorState, LookedUp
    from relaybroker.adapters.sessions.kinds import Launch

LEAST_VERSION = (2, 1, 224)
"""The first Claude Code with an inbox that was seen to work."""
MAX_LINE = 1_000_000
"""Characters of one message as JSON; Claude Code drops a connection whose line has 1048576."""
BURST = 25
"""Messages that go at once; Claude Code drops what is more than 30 of one sender, and gives back one in 2 s."""
EVERY_S = 2.2
"""Behind a burst one message goes in so many seconds."""
MAX_TRANSCRIPTS = 64
"""Conversations of one Claude Code whose transcripts are looked at; the newest ones."""
MAX_SEEN = 256
"""Messages whose place in the transcript is remembered until it is asked for."""
LOOK_S = 0.025
"""How often files are looked at while something is awaited."""
_STATES: dict[object, DoorState] = {"idle": "idle", "busy": "busy", "waiting": "blocked"}
_SOCKET = re.compile(r"(\d+)(-[0-9a-f]{8})?\.sock")


class ClaudeInboxKind:
    """Starts Claude Code with our two hooks."""

    async def prepare(self, launch: Launch) -> tuple[Launch, Door] | PassedOver:
        parts = launch.split("claude")
        if isinstance(parts, PassedOver):
            return parts
        words, given = parts
        notes = launch.folder / f"claude_inbox-{uuid.uuid4().hex}.jsonl"  # a session that is restarted has others
        added = options(given, notes)
        if added is None:
            return PassedOver("the command line has --settings of its own, beside which Claude Code takes no others")
        await asyncio.to_thread(launch.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        return replace(launch, argv=(*words, *added, *given)), ClaudeInbox(notes)

    def at(self, place: str) -> Door:
        return ClaudeInbox(place)


def options(argv: Sequence[str], notes: Path) -> list[str] | None:
    """What is put behind the program's name; None if the command line has settings of its own."""
    if has_settings(argv):
        return None
    file = shlex.quote(str(notes))
    start = (
        r"""printf '%s\n' "{\"start\":$(tr '\n' ' '),\"socket\":\"$CLAUDE_CODE_MESSAGING_SOCKET\","""
        rf"""\"token\":\"$CLAUDE_CODE_MESSAGING_TOKEN\"}}" >> {file}"""
    )
    hooks = {
        "SessionStart": f"umask 077; {start}",
        "UserPromptSubmit": f"""cat > /dev/null; printf '%s\\n' '{{"prompt":true}}' >> {file}""",
    }
    return hooked(hooks, crossSessionInbound="accept")


class Pace:
    """Keeps below the rate at which the inbox drops messages without a word. Times are of one clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._credit, self._at = float(BURST), now

    def take(self, now: float) -> float:
        """How long the next message has to wait; it is counted from then on."""
        self._credit = min(float(BURST), self._credit + (now - self._at) / EVERY_S) - 1
        self._at = now
        return max(0.0, -self._credit * EVERY_S)


class ClaudeInbox(Door):
    """The inbox of one Claude Code, whose hooks write `notes`."""

    name = "claude_inbox"
    folds = True

    def __init__(self, notes: str | Path) -> None:
        self._notes = Rows(notes)
        self._start: _Start | None = None
        """Its newest one: /clear and a resume begin another session."""
        self._transcripts: dict[str, Rows] = {}
        self._seen: dict[str, str] = {}
        """Ids of messages, and where the transcript has them; the newest `MAX_SEEN`."""
        self._reading = threading.Lock()
        self._pace = Pace(time.monotonic())
        self._is_closed = False

    async def open(self) -> Opened | PassedOver:
        """Wait for the start of its session. Its first one comes behind every question of a first start."""
        while (refusal := await asyncio.to_thread(self._refusal)) is None:  # noqa: ASYNC110  # a hook writes a file
            await asyncio.sleep(LOOK_S)
        return PassedOver(refusal) if refusal else Opened(str(self._notes.path))

    def _refusal(self) -> str | None:
        with self._reading:
            self._read_notes()
        return self._start.refusal() if self._start is not None else None

    @property
    def state(self) -> DoorState:
        """What the program's own registry says of it."""
        if self._is_closed or self._start is None:
            return "closed"
        row = self._start.registered()
        return "closed" if row is None else _STATES.get(row.get("status"), "busy")

    async def hand_over(self, delivery_id: str, text: str, *, steer: bool) -> None:
        """Post it. With `steer` what the program does is interrupted, as Escape does; without, it is the next prompt."""
        if not text:
            raise NotHandedOver("the message is empty, which Claude Code ignores")
        identifier = message_id(delivery_id)
        if self._start is None:
            raise NotHandedOver("Claude Code has not told its inbox")
        await asyncio.sleep(self._pace.take(time.monotonic()))
        await asyncio.to_thread(self._read_on)
        lines = "".join(f"{line}\n" for line in _frames(self._start, identifier, text, steer=steer))
        if len(lines) > MAX_LINE:
            raise NotHandedOver(f"the message has more than the {MAX_LINE} characters that Claude Code's inbox takes")
        self._seen.pop(identifier, None)
        state = self.state
        try:
            _, writer = await asyncio.open_unix_connection(address_of(Path(self._start.socket)))
        except OSError as error:
            raise NotHandedOver(f"Claude Code's inbox cannot be reached: {error}") from error
        try:
            await asyncio.to_thread(append, self._notes.path, {"handed": identifier, "state": state})
        except OSError as error:
            writer.close()
            raise NotHandedOver(f"the note of the hand-over cannot be written: {error}") from error
        try:
            writer.write(lines.encode())
            await writer.drain()
        finally:
            writer.close()

    async def evidence(self, delivery_id: str) -> Evidence:
        """The row of the transcript."""
        identifier = message_id(delivery_id)
        pause = pauses(LOOK_S)
        while True:
            await asyncio.to_thread(self._read_on)
            if (pointer := self._seen.pop(identifier, None)) is not None:
                return Evidence("transcript", pointer)
            await asyncio.sleep(next(pause))

    async def look_up(self, delivery_id: str) -> LookedUp:
        """By the transcripts of all its sessions, and what its hooks noted."""
        afresh = ClaudeInbox(self._notes.path)
        return await afresh._look_up(message_id(delivery_id))

    async def _look_up(self, identifier: str) -> LookedUp:
        handed = await asyncio.to_thread(self._handed, identifier)
        if isinstance(handed, Unknowable):
            return handed
        alive = await self._is_alive()  # asked before the transcript is read: what is dead by then writes no more
        await asyncio.to_thread(self._read_on)
        if identifier in self._seen:
            return Accepted(Evidence("transcript", self._seen[identifier]))
        if handed == "no":
            return Absent()
        if alive:
            return Unknowable("Claude Code still runs and may have the message in its queue")
        if handed == "begun":
            return Unknowable("Claude Code ended with a prompt begun that its transcript does not show")
        if not any(rows.path.exists() for rows in self._transcripts.values()):
            return Unknowable("Claude Code wrote no transcript")
        return Absent()

    def _handed(self, identifier: str) -> Literal["no", "yes", "begun"] | Unknowable:
        """Whether it left us, and whether a prompt was begun afterwards; that of which the notes say nothing never left."""
        if not self._notes.path.exists():
            return Unknowable("the notes of Claude Code's hooks are gone")
        handed: Literal["no", "yes", "begun"] = "no"
        for _, row in Rows(self._notes.path).new():
            if row.get("handed") == identifier:
                handed = "yes" if row.get("state") == "idle" else "begun"
            elif handed == "yes" and "prompt" in row:
                handed = "begun"
        self._read_notes()
        return handed

    async def _is_alive(self) -> bool:
        """Whether somebody still listens on its socket."""
        if self._start is None:
            return False
        try:
            _, writer = await asyncio.open_unix_connection(address_of(Path(self._start.socket)))
        except OSError:
            return False
        writer.close()
        return True

    async def close(self) -> None:
        """Nothing is held; a delivery that is given to it afterwards is refused."""
        self._is_closed = True

    # --- files ---------------------------------------------------------------------------------------------------------

    def _read_notes(self) -> None:
        for _, row in self._notes.new("start"):
            if (start := _Start.of(row)) is not None:
                self._start = start
                self._transcripts.setdefault(start.transcript, Rows(start.transcript))
                while len(self._transcripts) > MAX_TRANSCRIPTS:
                    del self._transcripts[next(iter(self._transcripts))]

    def _read_on(self) -> None:
        """Note which messages the transcripts have that were not looked at before."""
        with self._reading:
            self._read_notes()
            for path, rows in self._transcripts.items():
                for line, row in rows.new("msg_id"):
                    if isinstance(identifier := _taken(row), str):
                        self._seen[identifier] = f"{path}:{line}"
                        while len(self._seen) > MAX_SEEN:
                            del self._seen[next(iter(self._seen))]


def _frames(start: _Start, identifier: str, text: str, *, steer: bool) -> list[str]:
    message = {
        "type": "user",
        "msgV": 1,
        "msg_id": identifier,
        "message": {"role": "user", "content": text},
        **({"priority": "now"} if steer else {}),
    }
    return [json.dumps(frame) for frame in ({"type": "auth", "token": start.token}, message)]


class _Start:
    """One start of a session of one Claude Code, as its hook noted it: the program's own, or after /clear or a resume."""

    def __init__(self, transcript: str, socket: str, token: str) -> None:
        self.transcript = transcript
        self.socket = socket
        self.token = token
        process = _SOCKET.fullmatch(Path(socket).name)
        self._registry = Path(transcript).parents[2] / "sessions" / f"{process[1]}.json" if process else None

    @classmethod
    def of(cls, row: Row) -> _Start | None:
        values = inner(row, "start", "transcript_path"), row.get("socket"), row.get("token")
        transcript, socket, token = (value if isinstance(value, str) else "" for value in values)
        return cls(transcript, socket, token) if len(Path(transcript).parts) > 3 else None

    def refusal(self) -> str | None:
        """Why this is no inbox of ours; "" if it is one, None while it cannot be said."""
        if not self.socket:
            return "Claude Code offers no inbox in this session"
        if self._registry is None:
            return f"Claude Code's inbox has another place than before: {self.socket}"
        row = self.registered()
        if row is None or "status" not in row:
            return None
        version = tuple(int(part) for part in re.findall(r"\d+", str(row.get("version")))[:3])
        if version < LEAST_VERSION:
            return f"Claude Code {row.get('version')} is older than {'.'.join(map(str, LEAST_VERSION))}"
        if row.get("peerProtocol") != 1:
            return f"Claude Code's inbox speaks version {row.get('peerProtocol')!r}, and 1 is known here"
        if row.get("messagingSocketPath") != self.socket:
            return f"Claude Code's registry names another inbox: {row.get('messagingSocketPath')!r}"
        return ""

    def registered(self) -> Row | None:
        """What the program says of itself in its registry, a file of 1 KB; None when it is gone."""
        try:
            written = self._registry.read_bytes() if self._registry else b""
        except FileNotFoundError:
            return None
        except OSError:
            return {}
        return read_row(written) or {}  # it may be in the middle of being written


def _taken(row: Row) -> object:
    """The id of the message that this row of a transcript brought into the conversation."""
    match row.get("type"):
        case "user":
            return inner(row, "origin", "msg_id")
        case "attachment" if inner(row, "attachment", "type") == "queued_command":
            return inner(row, "attachment", "origin", "msg_id")
    return None

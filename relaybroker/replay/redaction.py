"""A session without what people and programs wrote to each other.

* The inputs are redacted, and the core decides about them again: so every text that is made of a body (what is typed,
  what is published, what clients are told) is consistent with it. A session that this version decides otherwise
  cannot be redacted by it.
* Each letter, digit and sign beyond ASCII is replaced; spaces, line breaks and punctuation stay, and so do the number
  of characters and of bytes. The same text becomes the same placeholder within one file; its key is thrown away, so
  nobody can try texts out.
* Kept: ids, names of agents, channels and nodes, times, reasons, programs and their options. Secrets are in no
  session anyway.

Source: ADR-0026.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from relaybroker.domain import inputs, told
from relaybroker.domain import state as domain_state
from relaybroker.domain.broker import Broker
from relaybroker.domain.inputs import Input, SpawnSpec
from relaybroker.domain.state import State
from relaybroker.domain.told import TimePassed
from relaybroker.replay.playing import Harnesses
from relaybroker.replay.session import EFFECTS, Session, SessionError, Turn, Writer, plain, starting_state

NAMES = frozenset(
    {
        "type",
        "id",
        "name",
        "from",
        "sender",
        "author",
        "target",
        "to",
        "recipient",
        "channel",
        "channels",
        "priority",
        "mode",
    }
    | {
        "status",
        "state",
        "kind",
        "event",
        "handle",
        "action",
        "cli",
        "cwd",
        "model",
        "team",
        "code",
        "v",
        "url",
        "version",
    }
)
"""Members of a payload whose text stays; and every member whose name ends like one of `ENDINGS`."""
ENDINGS = ("_id", "_ids", "_name", "_at", "Id")
TEXTS = frozenset({"text", "body", "content", "title", "topic", "description", "task", "prompt", "last_output"})
"""Members of an engine's answer and of a state whose text goes."""
CONTENTS = frozenset({"data", "payload", "input", "output"})
"""Members of a state that hold what somebody sent."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WIDE = {2: "\u00e9", 3: "\u2026", 4: "\U0001f642"}
"""A character for each length in UTF-8."""


class Redactor:
    """Replaces texts, the same ones by the same placeholder."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def text(self, text: str) -> str:
        """The placeholder of a text."""
        letters = self._letters(text)
        return "".join(_replaced(sign, letters) for sign in text)

    def content(self, value: Any, name: str = "") -> Any:
        """Something that somebody sent, without its texts."""
        if isinstance(value, dict):
            return {key: self.content(found, str(key)) for key, found in value.items()}
        if isinstance(value, list | tuple):
            return [self.content(found, name) for found in value]
        if isinstance(value, str) and not (name in NAMES or name.endswith(ENDINGS)):
            return self.text(value)
        return value

    def record(self, value: Any, name: str = "") -> Any:
        """A record of ours or of the engine, without the texts in it."""
        if isinstance(value, dict):
            return {key: self._member(found, str(key)) for key, found in value.items()}
        if isinstance(value, list | tuple):
            return [self.record(found, name) for found in value]
        return self.text(value) if isinstance(value, str) and name in TEXTS else value

    def _member(self, value: Any, name: str) -> Any:
        return self.content(value) if name in CONTENTS else self.record(value, name)

    def input(self, item: Input) -> Input:
        """An input without what somebody wrote."""
        match item:
            case inputs.FrameArrived(frame={"type": "deliver" | "action.invoke" as kind}):
                part = "payload" if kind == "deliver" else "input"
                if part in item.frame:
                    return msgspec.structs.replace(item, frame=item.frame | {part: self.content(item.frame[part])})
                return item
            case inputs.EngineAnswered():
                return msgspec.structs.replace(item, data=self.record(item.data))
            case inputs.SendRequested():
                return msgspec.structs.replace(item, text=self.text(item.text), data=self.content(item.data))
            case inputs.ActRequested():
                return msgspec.structs.replace(item, arguments=self.record(item.arguments))
            case inputs.SpawnRequested():
                return msgspec.structs.replace(item, spec=self._spec(item.spec))
            case inputs.ProgramExited():
                return msgspec.structs.replace(item, last_output=self.text(item.last_output))
            case inputs.HandlerFinished():
                return msgspec.structs.replace(item, output=self.content(item.output), error=self.text(item.error))
            case _:
                return item

    def state(self, state: State) -> State:
        """A state without what somebody wrote."""
        data = msgspec.json.decode(domain_state.encode(state))
        found = domain_state.decode(msgspec.json.encode([data[0], self.record(data[1])]))
        assert found is not None, "of this version"
        return found

    def _spec(self, spec: SpawnSpec) -> SpawnSpec:
        args = tuple(self.text(one) if " " in one else one for one in spec.args)
        env = {name: self.text(value) for name, value in spec.env.items()}
        return msgspec.structs.replace(spec, task=self.text(spec.task), args=args, env=env)

    def _letters(self, text: str) -> Iterator[str]:
        seed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key).digest()
        block = 0
        while True:
            for byte in hashlib.blake2b(seed + block.to_bytes(4, "big")).digest():
                yield _LETTERS[byte % len(_LETTERS)]
            block += 1


def _replaced(sign: str, letters: Iterator[str]) -> str:
    if ord(sign) < 128:
        return next(letters) if sign.isalnum() else sign
    next(letters)
    return _WIDE[len(sign.encode("utf-8", "surrogatepass"))]


def redact(session: Session, file: IO[bytes]) -> int:
    """Write the session without what people wrote; the number of turns.

    Raises:
        SessionError: it cannot be read, or this version decides it otherwise (`not_replayable`).
    """
    redactor, harnesses = Redactor(), Harnesses()
    state = redactor.state(session.state())
    header = msgspec.structs.replace(session.header, redacted=True, effects=EFFECTS, state=starting_state(state))
    core, writer, turns = Broker(harnesses.of, state), Writer(file, header), 0
    for turn in session:
        harnesses.learn(turn.events)
        writer.turn(_again(core, redactor, turn))
        turns += 1
    writer.end(session.end.end if session.end is not None else "cut_off")
    return turns


def _again(core: Broker, redactor: Redactor, turn: Turn) -> Turn:
    item = turn.input()
    if isinstance(item, TimePassed):
        decision, kept = core.on_time(turn.at), turn.told
    else:
        item = redactor.input(item)
        decision, kept = core.handle(item, turn.at), told.encode(item)
    before = [(recorded.stream, recorded.event.topic) for recorded in turn.events]
    after = [(recorded.stream, recorded.event.topic) for recorded in decision.events]
    if before != after:
        raise SessionError("not_replayable", f"position {turn.first}", turn.line)
    effects = None if turn.effects is None else plain(decision.effects)
    return Turn(at=turn.at, told=kept, events=decision.events, effects=effects)

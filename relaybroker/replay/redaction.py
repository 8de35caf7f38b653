"""A session without what people and programs wrote to each other, and without what they are.

* The inputs are redacted, and the core decides about them again: so every text that is made of one (what is typed, what is published,
  what clients are told) is consistent with it. A session that this version decides otherwise cannot be redacted by it.
* What is not known to be harmless is replaced. Harmless are: words of this program (`vocabulary`), names of agents that were started
  here, of this node and this broker, ids in the shapes that engine and broker give them, times and numbers of our own records. Nothing is
  kept because of the member that it is in: a member that nobody has heard of is replaced like all others, and so is its name.
* Bodies are replaced letter by letter: spaces, line breaks and punctuation stay, and so do the numbers of characters and bytes. Everything
  else is replaced word by word, two words never by the same one. The same becomes the same within one file; the key is thrown away, so
  nobody can try texts out.

Source: ADR-0026.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from typing import IO, Any

import msgspec

from relaybroker.domain import events, inputs, recorded_input
from relaybroker.domain import state as domain_state
from relaybroker.domain.broker import Broker
from relaybroker.domain.decoding import MAX_DEPTH
from relaybroker.domain.events import Recorded
from relaybroker.domain.recorded_input import RecordedInput, TimePassed
from relaybroker.domain.state import State
from relaybroker.replay.playing import Harnesses
from relaybroker.replay.session import EFFECTS, Session, SessionError, Turn, Writer, plain, starting_state
from relaybroker.replay.vocabulary import words

BODIES = frozenset(
    {"text", "body", "content", "title", "topic", "description", "task", "prompt", "last_output", "message", "output"}
)
"""Members whose length, lines and punctuation matter to what is typed."""
FOREIGN = frozenset({"frame", "data", "payload", "input", "output", "arguments", "env"})
"""Members that hold what somebody else has made: their numbers are no harmless ones."""
NUMBERS = frozenset(
    {"v", "seq", "ack_seq", "cursor", "up_to_seq", "priority", "expires_at", "max_agents", "active_agents", "load"}
)
"""Members of what somebody else has made that decisions are made from."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WIDE = {2: "\u00e9", 3: "\u2026", 4: "\U0001f642"}
"""A character for each length in UTF-8."""
_PART = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]+")
_ENGINE_ID = re.compile(r"(?:[a-z]+_)*[0-9]{15,20}(?:_[0-9]{15,20})*")
_OWN_ID = re.compile(r"(?:[a-z]+_)*(?:[0-9a-f]{16}|[0-9a-f]{24}|[0-9a-f]{32}|[0-9a-f]{64})(?:_[0-9]{1,4})?")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{8,64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,15}(?:Z|[+-][0-9]{2}:[0-9]{2})")
_SMALL = re.compile(r"[0-9]{1,5}|v[0-9]{1,2}")
_LEARNED = re.compile(r"[a-z_]+_[0-9a-f]{32}(?:_[0-9a-z]+)*")
_TRIES = 8


class Redactor:
    """Replaces texts, the same ones by the same placeholder."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._kept = set(words())
        self._placeholders: dict[str, str] = {}
        self._given: set[str] = set()
        self._learned: dict[str, str] = {}

    def keep(self, names: Iterable[str]) -> None:
        """These names stay as they are, unless they were replaced before."""
        parts = (part for name in names for part in _PART.findall(name))
        self._kept.update(part for part in parts if part not in self._placeholders)

    def learn(self, before: Iterable[Recorded], after: Iterable[Recorded]) -> None:
        """What was decided again has other ids where they are made of what was replaced: whoever names the one means the other."""
        for old, new in zip(before, after, strict=True):
            self._compare(msgspec.to_builtins(old.event), msgspec.to_builtins(new.event))

    def _compare(self, old: Any, new: Any) -> None:
        if isinstance(old, dict) and isinstance(new, dict):
            for name in old.keys() & new.keys():
                self._compare(old[name], new[name])
        elif isinstance(old, str) and isinstance(new, str) and old != new and _LEARNED.fullmatch(old):
            self._learned[old] = new

    def text(self, text: str) -> str:
        """The placeholder of a body."""
        letters = self._letters(text)
        return "".join(_replaced(sign, letters) for sign in text)

    def words(self, text: str, *, ours: bool = False) -> str:
        """A text of words and punctuation, without the words that are not known to be harmless."""
        if text in self._learned:
            return self._learned[text]
        if _FINGERPRINT.fullmatch(text) or _TIME.fullmatch(text):
            return text
        spoken = any(sign.isspace() for sign in text)
        return _PART.sub(
            lambda match: match[0] if ours and _is_count(match) else self._part(match[0], ours=ours, spoken=spoken),
            text,
        )

    def _part(self, part: str, *, ours: bool, spoken: bool) -> str:
        if part in self._learned:
            return self._learned[part]
        if not spoken and part in self._kept:
            return part
        if part not in self._placeholders:
            if self._is_id(part) or (ours and _SMALL.fullmatch(part)):
                return part
            if not spoken and "_" in part:
                return "_".join(self._part(word, ours=ours, spoken=False) if word else "" for word in part.split("_"))
            self._placeholders[part] = self._placeholder(part)
        return self._placeholders[part]

    def _is_id(self, part: str) -> bool:
        if not (_ENGINE_ID.fullmatch(part) or _OWN_ID.fullmatch(part)):
            return False
        return all(word in self._kept for word in part.split("_") if word.isalpha() and not _OWN_ID.fullmatch(word))

    def _placeholder(self, part: str) -> str:
        letters = self._letters(part)
        length = max(1, len(part))
        while True:
            for _ in range(_TRIES):
                made = "".join(next(letters) for _ in range(length))
                if made not in self._given and made not in self._kept:
                    self._given.add(made)
                    return made
            length += 1

    def value(self, value: Any, name: str = "", *, ours: bool = True, depth: int = 2 * MAX_DEPTH) -> Any:
        """A value without what is not known to be harmless. `ours`: it is of a record of this program."""
        if depth < 0:
            return None
        if isinstance(value, dict):
            return {
                self.words(key, ours=ours): self.value(member, key, ours=ours and key not in FOREIGN, depth=depth - 1)
                for key, member in value.items()
            }
        if isinstance(value, list):
            return [self.value(item, name, ours=ours, depth=depth - 1) for item in value]
        if isinstance(value, str):
            return self._string(value, name, ours=ours)
        if isinstance(value, bool) or value is None or ours or name in NUMBERS:
            return value
        return 0

    def _string(self, text: str, name: str, *, ours: bool) -> str:
        if name == "cli":
            return self.command(text)
        if name in BODIES and text not in self._kept:
            return self.text(text)
        return self.words(text, ours=ours or self._is_id_member(name))

    def _is_id_member(self, name: str) -> bool:
        """Whether a member has an id by a name that this program knows: small numbers in it are no telephone numbers."""
        return (name == "id" or name.endswith("_id")) and all(word in self._kept for word in name.split("_"))

    def command(self, line: str) -> str:
        """A command line: the program by its name, if that is a known one, and nothing of what follows."""
        program, space, rest = line.partition(" ")
        return self.words(program) + space + (self.text(rest) if rest else "")

    def input(self, kept: bytes) -> RecordedInput:
        """An input without what somebody wrote."""
        return recorded_input.decode(msgspec.json.encode(self.value(msgspec.json.decode(kept))))

    def state(self, state: State) -> State:
        """A state without what somebody wrote."""
        self.keep(state.names)
        if state.settings is not None:
            self.settings(state.settings)
        data = msgspec.json.decode(domain_state.encode(state))
        redacted = domain_state.decode(msgspec.json.encode([data[0], self.value(data[1])]))
        assert redacted is not None, "of this version"
        return redacted

    def settings(self, settings: inputs.Settings) -> None:
        """This node and this broker keep their names."""
        self.keep((settings.node_name, settings.broker_name, settings.version, settings.node_id, settings.workspace_id))

    def _letters(self, text: str) -> Iterator[str]:
        seed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key).digest()
        block = 0
        while True:
            for byte in hashlib.blake2b(seed + block.to_bytes(4, "big")).digest():
                yield _LETTERS[byte % len(_LETTERS)]
            block += 1


def _is_count(match: re.Match[str]) -> bool:
    """Whether it is the number at the end of one of our names: `delivery:…@55`, `…#2`, `agent:w1:3`."""
    before = match.string[: match.start()]
    return match[0].isdigit() and (
        before.endswith(("@", "#")) or (before.endswith(":") and before.startswith("agent:"))
    )


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
        _meet(redactor, harnesses, turn)
        writer.turn(_again(core, redactor, turn))
        turns += 1
    writer.end(session.end.end if session.end is not None else "cut_off")
    return turns


def _meet(redactor: Redactor, harnesses: Harnesses, turn: Turn) -> None:
    """Agents that are started here keep their names; their programs are known by what they are called from now on."""
    for recorded in turn.events:
        match recorded.event:
            case events.NameReserved() as reserved:
                redactor.keep((reserved.spec.name,))
                program = redactor.words(reserved.argv[0])
                harnesses.know((program, redactor.words(reserved.spec.harness)), reserved.harness)
            case _:
                pass


def _again(core: Broker, redactor: Redactor, turn: Turn) -> Turn:
    item = turn.input()
    if isinstance(item, TimePassed):
        decision, kept = core.on_time(turn.at), turn.input_json
    else:
        if isinstance(item, inputs.BrokerStarted):
            redactor.settings(item.settings)
        changed = redactor.input(turn.input_json)
        assert not isinstance(changed, TimePassed), "an input stays what it is"
        decision, kept = core.handle(changed, turn.at), recorded_input.encode(changed)
    before = [recorded.event.topic for recorded in turn.events]
    after = [recorded.event.topic for recorded in decision.events]
    if before != after:
        raise SessionError("not_replayable", f"position {turn.first}", turn.line)
    redactor.learn(turn.events, decision.events)
    effects = None if turn.effects is None else plain(decision.effects)
    return Turn(at=turn.at, input_json=kept, events=decision.events, effects=effects)

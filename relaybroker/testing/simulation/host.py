"""A small PTY host: idempotent, its reports kept until they are confirmed, its programs with a life of their own.

A shell is shown its messages. Into other programs text and Enter are typed, and the proof that follows Enter is reported; sometimes it is
late, and the text stands meanwhile for a person to see. A program with a door of its own is handed its messages; it loses some, takes some
late or unseen, and what it took stays in its records when it is gone. What a program was really given is kept here as the truth that
nobody in the broker sees.

Source: spec/node-protocol.md sections 0.5 and 6; `relaybroker.adapters.sessions`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import msgspec

from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.domain import effects, inputs
from relaybroker.domain.questions import Option, Question
from relaybroker.domain.worker import DRAFT
from relaybroker.testing.simulation.timeline import Pipe, Timeline

_Effect = (
    effects.StartProgram
    | effects.TypeText
    | effects.LookUp
    | effects.StopProgram
    | effects.ForgetProgram
    | effects.ConfirmReports
    | effects.EndHost
)


class Watcher(Protocol):
    """Who watches what reaches the terminals."""

    def typing(self, session: Session, wanted: effects.TypeText) -> None:
        """The first byte of a text is in the terminal."""

    def typed(self, session: Session, wanted: effects.TypeText) -> None:
        """The text was submitted, or is on the terminal of a shell."""

    def stood(self, *, went_in: bool) -> None:
        """A person was called for a text that stands although Enter was typed, or such a text went in after all."""


@dataclass(frozen=True)
class Traits:
    """How programs and terminals behave."""

    boot_s: tuple[float, float] = (0.05, 2.0)
    not_started: float = 0.0
    type_s: tuple[float, float] = (0.001, 0.02)
    write_failed: float = 0.0
    """Share of injections of which nothing is written."""
    half_typed: float = 0.0
    """Share of injections that stop in the middle."""
    late_proof: float = 0.0
    """Share of texts that stand for a while although Enter was typed."""
    late_s: tuple[float, float] = (9.0, 60.0)
    """How long those stand; a person is called for them after `LATE_S`."""
    latency_s: tuple[float, float] = (0.0001, 0.002)
    door_opens: float = 1.0
    """Share of the programs that offer the door which was asked for."""
    door_fails: float = 0.0
    """Share of hand-overs before which the door is gone: the terminal takes over."""
    door_loses: float = 0.0
    """Share of hand-overs of which the program takes nothing."""
    door_unseen: float = 0.0
    """Share of those that the program takes, and the host does not see it."""
    door_late: float = 0.0
    """Share of those that it takes after nobody waits any more."""
    door_repeats: float = 0.0
    """Share of those whose evidence comes twice."""
    records_lost: float = 0.0
    """Share of look-ups of which the records do not tell."""
    look_up_lost: float = 0.0
    """Share of look-ups that nobody answers."""


LATE_S = 8.0
EVIDENCE_S = 15.0
"""So long evidence is waited for."""
ASKED = Question("q", "permission", ("May it?",), (Option("yes", "Yes", "allow_once"),))
"""What a program with a door asks; the same again and again."""
DOOR = "inbox"


@dataclass
class Session:
    """One program in one terminal."""

    session_id: str
    agent_id: str
    name: str
    is_shell: bool = False
    """It is shown its messages and gets nothing typed."""
    keeps_text: bool = False
    """Enter submits nothing in it, until a person does."""
    state: str = "booting"
    was_ready: bool = False
    queue: deque[effects.TypeText] = field(default_factory=deque)
    current: effects.TypeText | None = None
    begun: bool = False
    """Part of `current` is in the terminal."""
    entered: bool = False
    """Enter is there, too; what is wanting is the proof."""
    waits_for_person: bool = False
    """The proof is wanting so long that a person was called."""
    draft: str = ""
    """Delivery whose half-typed text stands in the composer."""
    dialog: bool = False
    occupied: str = ""
    """Who has the terminal (a reason of `relaybroker.adapters.sessions.host.protocol.Occupied`): what is to be typed is handed back."""
    patience_s: float = 0.0
    is_reported: bool = False
    """The broker knows that it is occupied."""
    spoiled: dict[str, None] = field(default_factory=dict)
    """Half-typed deliveries that a person may have submitted: never typed again."""
    asks_for_door: bool = False
    door: bool = False
    """Messages enter through a door of the program's own."""
    newest: dict[str, int] = field(default_factory=dict)
    """Delivery -> the newest attempt for which it was asked again while it was under way: what comes of it is that one's outcome."""
    doubtful: dict[str, None] = field(default_factory=dict)
    """Handed over without evidence: not handed over again before they were looked up and are absent."""
    fence: int = 0
    """Report of an injection that is to be tried again; nothing is taken before the broker has confirmed it."""


class Connection:
    """The broker that is attached."""

    def __init__(self, to_broker: Pipe) -> None:
        self.to_broker = to_broker


class Host:
    """The host process and those that come after it."""

    def __init__(self, timeline: Timeline, random: Random, traits: Traits, watcher: Watcher) -> None:
        self._timeline = timeline
        self._random = random
        self.traits = traits
        self._watcher = watcher
        self.lost_broker: Callable[[Connection], None] = lambda _connection: None
        self.deaths = 0
        self.sessions: dict[str, Session] = {}
        self._starting: dict[str, effects.StartProgram] = {}
        self._stop_at_once: dict[str, float] = {}
        self.connection: Connection | None = None
        self._reports: list[Any] = []
        self._report = 0
        self._proofs: dict[tuple[str, str], inputs.TextTyped] = {}
        self._records: dict[str, None] = {}
        """Deliveries that programs took through their doors: they outlive the programs."""
        self._to_be_taken: dict[str, Session] = {}
        """Deliveries that a program has and takes later, if it lives."""

    @property
    def host_id(self) -> str:
        """Of the process that runs now."""
        return f"host_{self.deaths}"

    @property
    def unconfirmed(self) -> int:
        """Reports that the broker has not confirmed."""
        return len(self._reports)

    # --- connections ----------------------------------------------------------------------------------------------------

    def attach(self, connection: Connection) -> None:
        """Make this the broker's connection: what there is, then every report that is not confirmed."""
        self.connection = connection
        listed = tuple(
            inputs.HostSession(session_id=session.session_id, pid=7, state=session.state)
            for session in self.sessions.values()
        )
        connection.to_broker.send(inputs.HostAttached(host_id=self.host_id, host_pid=5, sessions=listed))
        for report in self._reports:
            connection.to_broker.send(report)

    def detached(self, connection: Connection) -> None:
        """The broker's end is gone; the host lives on."""
        if self.connection is connection:
            self.connection = None

    def die(self) -> None:
        """Kill -9 of the host: every terminal and everything it remembered is gone."""
        self.deaths += 1
        self.sessions, self._starting, self._stop_at_once, self._reports, self._proofs = {}, {}, {}, [], {}
        self._report = 0
        self._to_be_taken = {}
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.to_broker.cut()
            self.lost_broker(connection)

    # --- requests -------------------------------------------------------------------------------------------------------

    def take(self, request: _Effect) -> None:
        """Do what the broker asks; every outcome is a report."""
        match request:
            case effects.StartProgram():
                self._start(request)
            case effects.TypeText():
                self._type(request)
            case effects.LookUp():
                if self.connection is not None:
                    wait_s = self._random.uniform(0.001, 2.0)
                    self._timeline.after(wait_s, self._look_up, request, self.connection)
            case effects.StopProgram():
                self._stop(request.session_id, request.grace_s)
            case effects.ForgetProgram(session_id=session_id):
                ended = self.sessions.get(session_id)
                if ended is not None and ended.state == "exited":
                    del self.sessions[session_id]
                    self._proofs = {key: proof for key, proof in self._proofs.items() if key[0] != session_id}
            case effects.ConfirmReports(report=number):
                self._reports = [report for report in self._reports if report.report > number]
                for session in self.sessions.values():
                    session.fence = session.fence if session.fence > number else 0
            case effects.EndHost():
                for session in list(self.sessions.values()):
                    self._exit(session, requested=True, code=None, signal=15)
                self.die()

    def _start(self, start: effects.StartProgram) -> None:
        if start.session_id in self.sessions or start.session_id in self._starting:
            return
        self._starting[start.session_id] = start
        self._timeline.after(self._random.uniform(0.001, 0.05), self._started, start, self.deaths)

    def _started(self, start: effects.StartProgram, deaths: int) -> None:
        if deaths != self.deaths:
            return
        del self._starting[start.session_id]
        if self._random.random() < self.traits.not_started:
            self._tell(inputs.ProgramNotStarted, start.session_id, reason="cli_not_found", detail="no such program")
            return
        is_shell = harnesses.profile(start.profile).treatment == "show"
        asks_for_door = bool(start.doors) and not is_shell
        session = Session(start.session_id, start.agent_id, start.name, is_shell, asks_for_door=asks_for_door)
        self.sessions[start.session_id] = session
        self._tell(inputs.ProgramStarted, start.session_id, pid=4711)
        self._timeline.after(self._random.uniform(*self.traits.boot_s), self.become_ready, session)
        if start.session_id in self._stop_at_once:
            self._stop(start.session_id, self._stop_at_once.pop(start.session_id))

    def _stop(self, session_id: str, grace_s: float) -> None:
        session = self.sessions.get(session_id)
        if session_id in self._starting:
            self._stop_at_once[session_id] = grace_s
        if session is None or session.state in ("stopping", "exited"):
            return
        session.state = "stopping"
        self._close(session, "agent_released")
        self._timeline.after(self._random.uniform(0.0, grace_s), self._stopped, session)

    def _stopped(self, session: Session) -> None:
        if self.sessions.get(session.session_id) is session and session.state == "stopping":
            self._exit(session, requested=True, code=None, signal=15)

    # --- a program's life -----------------------------------------------------------------------------------------------

    def become_ready(self, session: Session) -> None:
        """The program shows its prompt."""
        if self._lives(session) and session.state == "booting":
            if session.asks_for_door and not session.was_ready:
                self._choose_door(session, opens=self._random.random() < self.traits.door_opens)
            session.state, session.was_ready = "ready", True
            self._tell(inputs.ProgramReady, session.session_id, evidence="prompt")
            self._pump(session)

    def open_dialog(self, session: Session) -> None:
        """A dialog or login comes up."""
        if self._lives(session) and session.state in ("booting", "ready") and not session.draft:
            session.state, session.dialog, session.is_reported = "blocked", True, False
            asked = ASKED if session.door else None  # a program with a door tells what it asks
            self._tell(inputs.ProgramBlocked, session.session_id, pattern="permission", question=asked)
            if session.entered:
                pass  # what it holds is seen when the dialog is gone
            elif session.begun:
                self._interrupted(session, "blocked_by_dialog")
            elif session.current is not None:
                session.queue.appendleft(session.current)
                session.current = None

    def clear(self, session: Session) -> None:
        """A person answers the dialog, or changes or clears a text that stands."""
        if session.waits_for_person and not session.dialog and self._lives(session):
            assert session.current is not None
            session.spoiled[session.current.delivery_id] = None
            self._interrupted(session, "composer_unclear")
            self._unblock(session)
            self._pump(session)
        elif self._lives(session) and (session.dialog or session.draft):
            if session.draft:
                session.spoiled[session.draft] = None
            if session.dialog and session.door:
                given = {"question_id": ASKED.id, "question": ASKED.kind, "option_id": "yes", "option": "Yes"}
                self._tell(inputs.AnswerGiven, session.session_id, request_id="", by="a person", **given)
            session.dialog, session.draft = False, ""
            self._unblock(session)
            if not session.was_ready:
                self._timeline.after(self._random.uniform(*self.traits.boot_s), self.become_ready, session)
            self._pump(session)

    def submit(self, session: Session) -> None:
        """A person presses Enter, and from now on Enter submits again."""
        session.keeps_text = False
        if session.door:
            return
        if self._lives(session) and session.entered and session.current is not None and not session.dialog:
            self._submitted(session, session.current)

    def _unblock(self, session: Session) -> None:
        session.waits_for_person = False
        session.state = "ready" if session.was_ready else "booting"
        self._tell(inputs.ProgramUnblocked, session.session_id)

    def occupy(self, session: Session, reason: str, patience_s: float) -> None:
        """The program begins to work or is stopped, a person types or left a text; the broker hears of it when it wants to type."""
        has_been_handed = session.door and (session.begun or session in self._to_be_taken.values())
        if has_been_handed:
            return  # it is at work on that
        if self._lives(session) and session.state in ("booting", "ready") and not session.occupied:
            session.occupied, session.patience_s = reason, patience_s

    def free(self, session: Session) -> None:
        """The terminal is free again."""
        if self._lives(session) and session.occupied:
            was_reported, session.occupied, session.is_reported = session.is_reported, "", False
            if was_reported:
                self._tell(inputs.ProgramFreed, session.session_id)
            self._pump(session)

    def _yields(self, session: Session, wanted: effects.TypeText) -> bool:
        """Whether the text has to wait: the broker is told who has the terminal, and gets everything back."""
        if (
            not session.occupied
            or (wanted.while_busy and session.patience_s)
            or is_shown_beside_a_person(session, wanted)
        ):
            return False
        session.current = None
        session.queue.appendleft(wanted)
        if not session.is_reported:
            session.is_reported = True
            self._tell(
                inputs.ProgramOccupied,
                session.session_id,
                reason=session.occupied,
                detail="seen",
                patience_s=session.patience_s,
            )
        self._hand_back(session, session.occupied)
        return True

    def fall_silent(self, session: Session) -> None:
        """Nothing happens in the terminal for a while."""
        if self._lives(session) and session.state == "ready" and not session.queue and session.current is None:
            self._tell(inputs.ProgramIdle, session.session_id, idle_s=30.0)

    def exit(self, session: Session, code: int) -> None:
        """The program ends by itself."""
        if self._lives(session) and session.state != "stopping":
            self._close(session, "worker_exited")
            self._exit(session, requested=False, code=code, signal=None)

    def _lives(self, session: Session) -> bool:
        return self.sessions.get(session.session_id) is session and session.state != "exited"

    def _exit(self, session: Session, *, requested: bool, code: int | None, signal: int | None) -> None:
        session.state = "exited"
        self._tell(
            inputs.ProgramExited,
            session.session_id,
            code=code,
            signal=signal,
            last_output="",
            uptime_s=1.0,
            requested=requested,
        )

    # --- typing ---------------------------------------------------------------------------------------------------------

    def _type(self, wanted: effects.TypeText) -> None:
        proof = self._proofs.get((wanted.session_id, wanted.delivery_id))
        session = self.sessions.get(wanted.session_id)
        if proof is not None:
            self._tell(
                inputs.TextTyped,
                wanted.session_id,
                delivery_id=wanted.delivery_id,
                attempt=wanted.attempt,
                bytes_written=proof.bytes_written,
                evidence=proof.evidence,
                wait_ms=proof.wait_ms,
                repeated=True,
            )
        elif any(isinstance(one, inputs.TextNotTyped) and _asked(one) == _asked(wanted) for one in self._reports):
            return  # the answer is on its way
        elif session is None or session.state in ("stopping", "exited"):
            self._failed(wanted, "not_running", "no")
        elif any(
            under_way.delivery_id == wanted.delivery_id for under_way in (*session.queue, session.current) if under_way
        ):
            session.newest[wanted.delivery_id] = wanted.attempt
            return
        elif session.fence:
            self._failed(wanted, "out_of_turn", "no")
        elif wanted.delivery_id in session.spoiled:
            self._failed(wanted, "composer_unclear", "partly")
        elif wanted.delivery_id in session.doubtful:
            self._failed(wanted, "no_evidence", "unknown")
        elif session.draft == wanted.delivery_id:
            self._timeline.after(self._random.uniform(*self.traits.type_s), self._complete, session, wanted)
        else:
            session.queue.append(wanted)
            self._pump(session)

    def _pump(self, session: Session) -> None:
        if session.state == "ready" and session.queue and session.current is None:
            session.current, session.begun = session.queue.popleft(), False
            self._timeline.after(self._random.uniform(*self.traits.type_s), self._write, session, session.current)

    def _is_current(self, session: Session, wanted: effects.TypeText) -> bool:
        return self._lives(session) and session.state == "ready" and session.current is wanted

    def _write(self, session: Session, wanted: effects.TypeText) -> None:
        """The text is written; Enter follows."""
        if session.begun or not self._is_current(session, wanted) or self._yields(session, wanted):
            return
        if session.door:
            self._hand_over(session, wanted)
            return
        if self._random.random() < self.traits.write_failed:
            session.current = None
            self._failed(wanted, "pty_write_failed", "no")
            self._hand_back(session, "out_of_turn")
            return
        self._watcher.typing(session, wanted)
        if session.is_shell and not wanted.task:
            session.current = None
            self._done(session, wanted, evidence="shown")
            self._timeline.after(0.001, self._pump, session)
            return
        session.begun = True
        if self._random.random() < self.traits.half_typed:
            session.current, session.begun = None, False
            session.draft, session.state, session.is_reported = wanted.delivery_id, "blocked", False
            self._tell(inputs.ProgramBlocked, session.session_id, pattern=DRAFT)
            self._failed(wanted, "pty_write_failed", "partly")
            return
        self._timeline.after(self._random.uniform(*self.traits.type_s), self._enter, session, wanted)

    def _enter(self, session: Session, wanted: effects.TypeText) -> None:
        """Enter is typed; the proof follows."""
        if session.entered or not self._is_current(session, wanted):
            return
        session.entered = True
        if session.keeps_text:
            self._timeline.after(LATE_S, self._late, session, wanted)
        elif self._random.random() < self.traits.late_proof:
            self._timeline.after(LATE_S, self._late, session, wanted)
            self._timeline.after(self._random.uniform(*self.traits.late_s), self._submitted, session, wanted)
        else:
            self._submitted(session, wanted)

    def _late(self, session: Session, wanted: effects.TypeText) -> None:
        """The text still stands: a person is called."""
        if not self._lives(session) or session.current is not wanted or not session.entered:
            return
        if session.dialog:
            self._timeline.after(1.0, self._late, session, wanted)
        elif session.state == "ready":
            session.waits_for_person, session.state, session.is_reported = True, "blocked", False
            self._watcher.stood(went_in=False)
            self._tell(inputs.ProgramBlocked, session.session_id, pattern=DRAFT)

    def _submitted(self, session: Session, wanted: effects.TypeText) -> None:
        """The text went in, and that was seen."""
        if not self._lives(session) or session.current is not wanted or not session.entered:
            return
        if session.dialog:
            self._timeline.after(1.0, self._submitted, session, wanted)
            return
        if session.waits_for_person:
            self._watcher.stood(went_in=True)
            self._unblock(session)
        session.current, session.begun, session.entered = None, False, False
        self._done(session, wanted)
        self._timeline.after(0.001, self._pump, session)

    def _complete(self, session: Session, wanted: effects.TypeText) -> None:
        """The rest of a half-typed text, for a broker that asks again."""
        if self._lives(session) and session.draft == wanted.delivery_id and not session.dialog:
            session.draft = ""
            session.state = "ready"
            self._tell(inputs.ProgramUnblocked, session.session_id)
            self._done(session, wanted)
            self._pump(session)
        elif self._lives(session) and wanted.delivery_id in session.spoiled:
            self._failed(wanted, "composer_unclear", "partly")  # a person was faster

    def _done(self, session: Session, wanted: effects.TypeText, *, evidence: str = "composer") -> None:
        self._watcher.typed(session, wanted)
        proof = self._tell(
            inputs.TextTyped,
            session.session_id,
            delivery_id=wanted.delivery_id,
            attempt=wanted.attempt,
            bytes_written=0 if evidence == "shown" else len(wanted.text) + 1,
            evidence=evidence,
            wait_ms=0.0 if evidence == "shown" else 1.0,
        )
        self._proofs[session.session_id, wanted.delivery_id] = proof
        self._timeline.after(self._random.uniform(0.05, 1.0), self._verify, session, wanted)

    # --- a door of the program's own ------------------------------------------------------------------------------------

    def _choose_door(self, session: Session, *, opens: bool) -> None:
        session.door = opens
        self._tell(
            inputs.DoorChosen,
            session.session_id,
            door=DOOR if opens else "",
            place=session.session_id if opens else "",
            passed_over={} if opens else {DOOR: "it did not open"},
        )

    def _hand_over(self, session: Session, wanted: effects.TypeText) -> None:
        """The message leaves us; what the program makes of it, chance decides."""
        traits, chance = self.traits, self._random.random
        if chance() < traits.door_fails:
            session.current = None
            self._choose_door(session, opens=False)
            self._failed(wanted, "out_of_turn", "no")
            self._hand_back(session, "out_of_turn")
            return
        session.begun = session.entered = True
        is_lost, is_late, is_unseen = (
            chance() < traits.door_loses,
            chance() < traits.door_late,
            chance() < traits.door_unseen,
        )
        if is_lost or is_late or is_unseen:
            self._timeline.after(EVIDENCE_S, self._without_evidence, session, wanted)
        if is_lost:
            return
        self._to_be_taken[wanted.delivery_id] = session
        seconds = self._random.uniform(EVIDENCE_S, 2 * EVIDENCE_S) if is_late else self._random.uniform(*traits.type_s)
        self._timeline.after(seconds, self._take_in, session, wanted, not is_late and not is_unseen)

    def _take_in(self, session: Session, wanted: effects.TypeText, seen: bool) -> None:
        """The program takes what it was handed, unless it is gone; perhaps the host sees that."""
        if self._to_be_taken.pop(wanted.delivery_id, None) is not session or not self._lives(session):
            return
        self._watcher.typing(session, wanted)
        self._watcher.typed(session, wanted)
        self._records[wanted.delivery_id] = None
        if not seen or session.current is not wanted:
            return
        session.current, session.begun, session.entered = None, False, False
        proof = self._taken(session, wanted)
        self._proofs[session.session_id, wanted.delivery_id] = proof
        if self._random.random() < self.traits.door_repeats:
            self._taken(session, wanted)
        self._timeline.after(0.001, self._pump, session)

    def _taken(self, session: Session, wanted: effects.TypeText) -> inputs.TextTyped:
        proof: inputs.TextTyped = self._tell(
            inputs.TextTyped,
            session.session_id,
            delivery_id=wanted.delivery_id,
            attempt=wanted.attempt,
            bytes_written=len(wanted.text),
            evidence="transcript",
            wait_ms=1.0,
            door=DOOR,
            pointer=f"row {len(self._records)}",
        )
        return proof

    def _without_evidence(self, session: Session, wanted: effects.TypeText) -> None:
        """Nobody waits for evidence any more."""
        if not self._lives(session) or session.current is not wanted:
            return
        session.current, session.begun, session.entered = None, False, False
        session.doubtful[wanted.delivery_id] = None
        attempt = max(wanted.attempt, session.newest.pop(wanted.delivery_id, 0))
        self._failed(msgspec.structs.replace(wanted, attempt=attempt), "no_evidence", "unknown")
        self._hand_back(session, "out_of_turn")

    def _look_up(self, wanted: effects.LookUp, asker: Connection) -> None:
        """What the records say; while the program still has it, nobody can tell."""
        if self.connection is not asker or self._random.random() < self.traits.look_up_lost:
            return
        holder = self._to_be_taken.get(wanted.delivery_id)
        if holder is not None and self._lives(holder):
            self._timeline.after(1.0, self._look_up, wanted, asker)
            return
        outcome = "accepted" if wanted.delivery_id in self._records else "absent"
        if self._random.random() < self.traits.records_lost:
            outcome = "unknowable"
        if outcome == "absent" and (session := self.sessions.get(wanted.session_id)) is not None:
            session.doubtful.pop(wanted.delivery_id, None)
        evidence, pointer = ("transcript", "row 1") if outcome == "accepted" else ("", "")
        asker.to_broker.send(
            inputs.DeliveryLookedUp(
                delivery_id=wanted.delivery_id,
                attempt=wanted.attempt,
                outcome=outcome,
                evidence=evidence,
                pointer=pointer,
            )
        )

    # --- what comes back ------------------------------------------------------------------------------------------------

    def _verify(self, session: Session, wanted: effects.TypeText) -> None:
        if self._lives(session):
            verification = "echo" if self._random.random() < 0.5 else "timeout_fallback"
            self._tell(
                inputs.TextVerified, session.session_id, delivery_id=wanted.delivery_id, verification=verification
            )

    def _interrupted(self, session: Session, reason: str) -> None:
        wanted, begun = session.current, session.begun
        is_whole = session.entered
        session.current, session.begun, session.entered = None, False, False
        if wanted is not None and session.door:
            self._failed(wanted, reason, "unknown" if begun else "no")
        elif wanted is not None:
            session.draft = wanted.delivery_id if begun and not is_whole else ""
            self._failed(wanted, reason, "partly" if begun else "no")

    def _close(self, session: Session, reason: str) -> None:
        self._interrupted(session, reason)
        self._hand_back(session, reason)

    def _hand_back(self, session: Session, reason: str) -> None:
        while session.queue:
            self._failed(session.queue.popleft(), reason, "no")

    def _failed(self, wanted: effects.TypeText, reason: str, typed: str) -> None:
        report = self._tell(
            inputs.TextNotTyped,
            wanted.session_id,
            delivery_id=wanted.delivery_id,
            attempt=wanted.attempt,
            reason=reason,
            typed=typed,
        )
        if typed in ("no", "unknown") and (session := self.sessions.get(wanted.session_id)) is not None:
            session.fence = report.report

    def _tell(self, kind: Any, session_id: str, **fields: Any) -> Any:
        self._report += 1
        report = kind(host_id=self.host_id, report=self._report, session_id=session_id, **fields)
        self._reports.append(report)
        if self.connection is not None:
            self.connection.to_broker.send(report)
        return report


def is_shown_beside_a_person(session: Session, wanted: effects.TypeText) -> bool:
    """What is shown does not touch the line that a person has begun."""
    return session.is_shell and not wanted.task and session.occupied in ("human_driving", "composer_unclear")


def _asked(about: effects.TypeText | inputs.TextNotTyped) -> tuple[str, int]:
    return about.delivery_id, about.attempt

"""The promises, watched from outside: what was posted, what the log says for good, what left, what a terminal got.

The model is plain on purpose and shares no rule with the core: for each agent id it knows which sequence numbers are covered (typed for
certain, or settled by a recorded reason) and what its terminals were given. A broken promise raises `Violation` at the step that broke it.

| checked | where |
|---|---|
| FETCHED-ONCE | what is fetched was given to its agent, and is given or typed again only with the mark |
| TRUE-END | nobody is told twice of one message |
| LOG-FIRST | nothing is typed whose intent is not written; nothing is acknowledged that is not on disk |
| TYPED-ONCE, D5, D6, D7 | one message is typed once; again only with the mark `possible-duplicate` |
| LOCAL-FIRST | what was given before the engine had it is typed once, in order, published once, and its copy is not typed |
| ORDER, D8 | each terminal gets the sequenced messages of its agent in ascending order, apart from those that were given back |
| ACK-FLOOR, D1-D4 | an acknowledgement covers only what is covered, never falls within a generation, never exceeds what exists |
| NO-LOSS | a message that is not typed is kept as a dead letter, given back because its agent ended, or was not for typing |
| ONE-OWNER | a message is given back only while the engine has it, and never from custody |
| D7 of gaps | nothing is declared lost before the engine had ten seconds to offer it, on this link and to this agent |
| D12 | no terminal gets what was posted to another agent id |
| D13, ONE-END | one decision per frame; one end per delivery; every hold, drop and dead letter has a reason |
| D14 | fold(log) is the live state |
| BOUNDED | windows, buffers, queues and what is remembered stay within their numbers |
| D9, R1, X1 | after healing everything that is offered is settled, the inventory is right, every invocation has one result |

Source: spec/node-protocol.md section 9; spec/failure-scenarios.md section 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from relaybroker.domain import delivery, effects, events, inputs, mailbox, replies
from relaybroker.domain.changes.link import ABANDONED_KEPT
from relaybroker.domain.effects import Effect
from relaybroker.domain.events import Recorded
from relaybroker.domain.inputs import Input
from relaybroker.domain.message import HOLDS_LINE_TRIES
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import ANNOUNCEMENTS_KEPT, State
from relaybroker.testing.simulation.engine import OF_AGENT
from relaybroker.testing.simulation.host import Session, is_shown_beside_a_person
from relaybroker.testing.simulation.marks import Marks

_CONTEXT = re.compile(r"^(?:# ?)?Relay message from .*? \[([^\] ]+)([^\]]*)\]: ", re.MULTILINE)
_DECISIONS = (
    events.DeliveryOffered,
    events.DeliveryRecognised,
    events.FrameIgnored,
    events.FrameBuffered,
    events.EarlyFrameKept,
)
_NO_DELIVERY = (events.FrameRejected, events.LinkReportIgnored)

_MAY_SETTLE = {
    Reason.RECEIPT_ONLY,
    Reason.SELF_ECHO,
    Reason.UNKNOWN_TYPE,
    Reason.POISON,
    Reason.AMBIGUOUS,
    Reason.EXPIRED,
    Reason.READ_ELSEWHERE,
}
"""Why a message may be over without being typed or kept as a dead letter (`ambiguous`: the policy at_most_once)."""

_MAY_RETURN = {
    Reason.WORKER_EXITED,
    Reason.WORKER_LOST,
    Reason.AGENT_RELEASED,
    Reason.SPAWN_FAILED,
    Reason.CLI_NOT_FOUND,
    Reason.NOT_RUNNING,
    Reason.SHUTDOWN,
    Reason.AMBIGUOUS,
    Reason.UNDECIDED,
}
"""Why a message may be given back: its agent has ended, or nothing was decided (`ambiguous`: the policy at_least_once)."""


class Violation(AssertionError):  # noqa: N818 - says what it is
    """A promise was broken."""


@dataclass
class AgentStory:
    """What is known from outside about one agent id."""

    posted: dict[int, str] = field(default_factory=dict)
    withdrawn: set[int] = field(default_factory=set)
    covered: dict[int, str] = field(default_factory=dict)
    """Sequence number -> why the log settles it."""
    covered_at: dict[int, int] = field(default_factory=dict)
    """Sequence number -> position of the first record that settles it."""
    refused: set[tuple[int, str]] = field(default_factory=set)
    """Frames that came while the agent was not here."""
    base: int | None = None
    returned: set[int] = field(default_factory=set)
    buffered: set[int] = field(default_factory=set)
    acked: int = -1
    """Highest acknowledgement that left in this generation."""
    touched: dict[str, int] = field(default_factory=dict)
    """Message ids of which at least a part reached a terminal -> the latest number under which they did."""
    marked: set[str] = field(default_factory=set)
    """Those of them that were typed with the mark and not given in answer to a fetch since."""
    floor: int = 0
    """Everything from the base up to here is covered."""
    ahead: dict[int, float] = field(default_factory=dict)
    """Numbers whose frames wait for those before them, and when they came."""
    spoken: dict[tuple[str, str], int] = field(default_factory=dict)
    """Sender here and session -> the place in the log of its latest message that was typed."""
    opened_at: float = 0.0
    """When its mailbox was opened (again), by the core's clock."""


@dataclass
class Attempt:
    """One delivery stream."""

    agent_id: str
    seq: int | None
    msg_id: str
    typing_id: str
    late: bool
    """Below an adopted base: typed out of order, and said so (the exception of D8)."""
    source: str = "engine"
    is_typed: bool = False
    gave_its_number: bool = False
    """To the delivery that had given the same message before the engine had it."""
    is_open: bool = True
    intended: bool = False
    in_custody: bool = False
    doubted: bool = False
    records_fail: bool = False
    """The records were asked, and do not tell or were asked twice in vain."""


@dataclass
class Post:
    """A message that one agent here wrote to another."""

    event_id: str
    place: int
    """In the log."""
    author_id: str
    recipient_id: str
    message_id: str = ""
    is_open: bool = True
    """In the outbox."""
    is_free: bool = False
    """Its order is not promised: it was turned away too often, or came back from a program that ended."""


class Promises:
    """Watches one world. Told by the engine, the host and the node; asked by nobody."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.agents: dict[str, AgentStory] = {}
        self.attempts: dict[str, Attempt] = {}
        """By stream; those that ended are kept by id only."""
        self._ended: dict[str, None] = {}
        self._places: dict[str, tuple[str, int]] = {}
        """Stream -> agent id and sequence number, from the moment of the decision; until its end is durable."""
        self._outbox: dict[str, str] = {}
        """Streams of what was given before the engine had it, and has no number: the message's id here."""
        self._doubted: dict[str, Attempt] = {}
        """Dead letters that may have been typed, or are typed yet: each at most once, and each says so."""
        self._by_typing: dict[str, str] = {}
        self._whole: dict[str, None] = {}
        """Typing ids that a terminal got whole."""
        self._of_this_machine: set[str] = set()
        """Those of them that did since the machine crashed."""
        self._last_seq: dict[str, int] = {}
        """Session -> highest sequence number it was given."""
        self._id_of_name: dict[str, str] = {}
        self._results: dict[str, tuple[Any, str]] = {}
        self._runs: dict[str, int] = {}
        self._posts: dict[str, Post] = {}
        """By both ids of each."""
        self._was_given: set[str] = set()
        """Messages that agents were given before the engine had them."""
        self._keys: set[str] = set()
        """Under which messages were published."""
        self._noticed: set[str] = set()
        """Of what senders were told."""
        self._given: set[tuple[str, str, str]] = set()
        """What agents got by fetching: agent id, fetch, message."""
        self._online_at = 0.0
        self._position = self._synced = 0
        self.decided = 0
        self.typed_total = 0
        self.is_up = False
        self.engine_forgot: Callable[[str, int], bool] = lambda _agent_id, _seq: False
        """Whether the engine has a row no more because its life is over."""

    def _story(self, agent_id: str) -> AgentStory:
        return self.agents.setdefault(agent_id, AgentStory())

    # --- the engine -----------------------------------------------------------------------------------------------------

    def posted(self, agent_id: str, seq: int, msg_id: str, payload: Any) -> None:
        """A row exists."""
        del payload
        self._story(agent_id).posted[seq] = msg_id

    def withdrawn(self, agent_id: str, seq: int) -> None:
        """The engine has no such row any more."""
        self._story(agent_id).withdrawn.add(seq)

    def acknowledged(self, agent_id: str, former: int, up_to: int, highest: int) -> None:
        """The engine moved its cursor because we said so."""
        _hold(up_to <= highest, f"D2: ack {up_to} of agent {agent_id}, which has {highest} messages")
        story = self._story(agent_id)
        for seq in range(former + 1, up_to + 1):
            if seq not in story.covered and seq not in story.withdrawn:
                _hold(
                    story.base is not None and seq <= story.base,
                    f"ACK-FLOOR: ack {up_to} of agent {agent_id} covers {seq}, which nothing settles",
                )
                self.marks.reach("the adopted base skipped a row")

    def result(self, invocation_id: str, frame: dict[str, Any]) -> None:
        """An invocation was answered, perhaps again."""
        given = (frame.get("output"), frame.get("error", ""))
        former = self._results.setdefault(invocation_id, given)
        _hold(former == given, f"X1: invocation {invocation_id} was answered {former}, then {given}")
        _hold(("output" in frame) != ("error" in frame), f"X2: {frame}")

    def published(self, key: str, auth: str, body: Any) -> None:
        """A message was published."""
        text = str(body["text"])
        author = text.removeprefix(OF_AGENT).partition(" ")[0] if text.startswith(OF_AGENT) else ""
        _hold(not author or auth == f"agent:{author}", f"IDENTITY: {text!r} was published as {auth}")
        if author:
            self.marks.reach("an agent answered with its own token")
        _hold(key not in self._keys, f"LOCAL-FIRST: {key} is published again")
        self._keys.add(key)
        _hold(bool(key), f"F034: a message was published without a key: {body}")

    # --- the host -------------------------------------------------------------------------------------------------------

    def typing(self, session: Session, wanted: effects.TypeText) -> None:
        """The first byte of a text is in a terminal."""
        if session.occupied:
            goes_through = bool(wanted.while_busy and session.patience_s) or is_shown_beside_a_person(session, wanted)
            _hold(goes_through, f"F021, F087: {wanted.delivery_id} is typed in spite of {session.occupied}")
            if wanted.while_busy:
                self.marks.reach("typed while the program worked")
        stream = self._by_typing.get(wanted.delivery_id)
        _hold(stream is not None, f"LOG-FIRST: {wanted.delivery_id} is typed and no written event knows it")
        assert stream is not None
        attempt = self.attempts.get(stream) or self._doubted.pop(stream, None)
        _hold(attempt is not None, f"TYPED-ONCE: {stream} has ended and is typed all the same")
        assert attempt is not None
        _hold(attempt.intended, f"LOG-FIRST: {wanted.delivery_id} is typed before its intent is written")
        _hold(
            attempt.agent_id == session.agent_id,
            f"D12: {attempt.msg_id} is for agent {attempt.agent_id} and typed to {session.agent_id}",
        )
        _hold(wanted.delivery_id not in self._of_this_machine, f"TYPED-ONCE: {wanted.delivery_id} is typed again")
        if attempt.source in ("engine", delivery.LOCAL):
            self._typing_message(session, attempt, wanted)

    def _typing_message(self, session: Session, attempt: Attempt, wanted: effects.TypeText) -> None:
        story, seq = self._story(attempt.agent_id), attempt.seq
        context = _CONTEXT.search(wanted.text)
        post = self._posts.get(attempt.msg_id)
        ids = (attempt.msg_id,) if post is None else (post.event_id, attempt.msg_id)
        _hold(context is not None and context[1] in ids, f"{attempt.msg_id} is typed as {wanted.text!r}")
        assert context is not None
        if seq:
            _hold(
                story.posted.get(seq) == attempt.msg_id, f"{attempt.msg_id} is not message {seq} of {attempt.agent_id}"
            )
        is_message = bool(seq) or post is not None
        key = (
            post.event_id
            if post is not None
            else attempt.msg_id
            if seq
            else f"fan-out {attempt.msg_id} {wanted.text.partition(']: ')[2]}"
        )
        former = story.touched.get(key)
        if former is not None and (seq or 0) - former <= mailbox.SEEN_WINDOW:
            _hold(
                is_message and "possible-duplicate" in context[2],
                f"TYPED-ONCE: {attempt.msg_id} (seq {seq}) of {attempt.agent_id} is typed again, silently",
            )
            self.marks.reach("typed again with the mark")
        story.touched[key] = seq or 0
        if "possible-duplicate" in context[2]:
            story.marked.add(key)
        if post is not None:
            self._in_order(story, session, attempt, post)
        if seq and attempt.source == "engine":
            last = self._last_seq.get(session.session_id, 0)
            _hold(
                seq > last or seq in story.returned or attempt.late,
                f"ORDER: seq {seq} of {attempt.agent_id} is typed after {last}",
            )
            self._last_seq[session.session_id] = max(last, seq)

    @staticmethod
    def _in_order(story: AgentStory, session: Session, attempt: Attempt, post: Post) -> None:
        """ORDER of what one agent here writes to another, whichever way it comes."""
        former = story.spoken.get((post.author_id, session.session_id), 0)
        is_exempt = post.is_free or attempt.late or attempt.seq in story.returned
        _hold(
            is_exempt or post.place > former, f"LOCAL-FIRST: {post.event_id} is typed after a later one of its sender"
        )
        story.spoken[post.author_id, session.session_id] = max(former, post.place)

    def given(self, agent_id: str, answer: replies.Fetched) -> None:
        """An agent has read the answer to its fetch."""
        story = self._story(agent_id)
        for one in answer.messages:
            self._given.add((agent_id, answer.fetch_id, one.msg_id))
            post = self._posts.get(one.msg_id)
            ids = {one.msg_id} if post is None else {post.event_id, post.message_id}
            key = one.msg_id if post is None else post.event_id
            seqs = [seq for seq, msg_id in story.posted.items() if msg_id in ids]
            former = story.touched.get(key)
            if not seqs and post is None:
                continue  # without a place in the sequence
            last = seqs[-1] if seqs else 0
            if former is not None and last - former <= mailbox.SEEN_WINDOW:
                # an answer waits for the disk, and what is typed instead of it does not: then the typed one has the mark
                is_marked = one.doubtful or key in story.marked
                _hold(is_marked, f"FETCHED-ONCE: {one.msg_id} of {agent_id} is given again, silently")
            story.marked.discard(key)
            story.touched[key] = last

    def stood(self, *, went_in: bool) -> None:
        """A text stood in a composer, for a person to see."""
        self.marks.reach("a text went in late" if went_in else "a person was called for a text that stood")

    def typed(self, session: Session, wanted: effects.TypeText) -> None:
        """A text was submitted, or shown by a shell's terminal."""
        del session
        self._whole[wanted.delivery_id] = None
        self._of_this_machine.add(wanted.delivery_id)
        self.typed_total += 1

    # --- the node -------------------------------------------------------------------------------------------------------

    def deciding(self, item: Input | None, decided: Sequence[Recorded]) -> None:
        """One input, one decision; `None` is the time."""
        self.decided += 1
        self.marks.decided(item, decided)
        for recorded in decided:
            event = recorded.event
            if isinstance(event, events.DeliveryLookedUp) and isinstance(item, inputs.DeliveryLookedUp):
                is_true = (item.delivery_id in self._whole) == (event.outcome == "accepted")
                is_told = event.outcome != "unknowable"
                _hold(is_true or not is_told, f"PROOF: {recorded.stream} is said to be {event.outcome}")
            if isinstance(event, events.DeliveryOffered):
                self._places[recorded.stream] = event.agent_id, event.seq or 0
                if event.source == delivery.LOCAL:
                    self._outbox[recorded.stream] = event.msg_id
            elif isinstance(event, events.DeliveryRecognised):
                self._places[recorded.stream] = self._places[recorded.stream][0], event.seq
                self._outbox.pop(recorded.stream, None)
            elif isinstance(event, events.DeliveryDropped) and not event.settled:
                self._given_back(recorded.stream, event)
            elif isinstance(event, events.FrameBuffered):
                self._story(recorded.stream.partition(":")[2]).buffered.add(event.seq)
            elif isinstance(event, events.FrameIgnored) and event.reason in (Reason.RETIRED, Reason.UNKNOWN):
                self._story(recorded.stream.partition(":")[2]).refused.add((event.seq, event.msg_id))
        if isinstance(item, inputs.FrameArrived) and item.frame["type"] == "deliver":
            self._one_decision(item.frame, decided)

    def _given_back(self, stream: str, event: events.DeliveryDropped) -> None:
        """ONE-OWNER: whoever is said to keep it must have it at that moment."""
        agent_id, seq = self._places[stream]
        if stream in self._outbox:
            _hold(event.reason in _MAY_RETURN, f"NO-LOSS: {stream} goes back to the outbox because of {event.reason}")
            return
        _hold(event.reason in _MAY_RETURN, f"NO-LOSS: {stream} is given back because of {event.reason}")
        _hold(seq > 0 or event.reason is Reason.UNDECIDED, f"NO-LOSS: {stream} is given back, and nobody keeps it")
        _hold(not self.engine_forgot(agent_id, seq), f"ONE-OWNER: {stream} is given back to an engine that forgot it")

    def _one_decision(self, frame: dict[str, Any], decided: Sequence[Recorded]) -> None:
        if any(isinstance(recorded.event, _NO_DELIVERY) for recorded in decided):
            _hold(len(decided) == 1, f"D13: {frame} was refused and more")
            return
        own = 0
        story = self._story(str(frame["agent_id"]))
        if not decided:
            _hold((frame["seq"], frame["msg_id"]) in story.refused, f"D13: {frame} left no trace")
            return
        for recorded in decided:
            event = recorded.event
            if not isinstance(event, _DECISIONS) or _is_notice(event):
                continue
            if isinstance(event, events.FrameBuffered):
                own += event.seq == frame["seq"]
            elif event.seq == frame["seq"] and (event.msg_id == (frame["msg_id"] or event.msg_id)) and not own:
                own += 1
            else:
                _hold(event.seq in story.buffered, f"D13: {frame} led to a decision about {event.seq}")
        _hold(own == 1, f"D13: {own} decisions about {frame}: {decided}")

    def written(self, recorded: Sequence[Recorded]) -> None:
        """These are in the log for good, as long as the machine lives."""
        for one in recorded:
            self.marks.recorded(one)
            self._written(one)

    def synced(self, upto: int) -> None:
        """The log is on disk up to this position."""
        self._synced = upto

    def rewound(self, log: Sequence[Recorded]) -> None:
        """The machine crashed: what is known from the log is what this rest of it says; what terminals and engine have seen stays."""
        self.attempts, self._ended, self._doubted, self._by_typing = {}, {}, {}, {}
        self._runs, self._noticed = {}, set()
        for story in self.agents.values():
            story.covered, story.covered_at, story.returned, story.base, story.ahead = {}, {}, set(), None, {}
        for one in log:
            self._written(one)
        self._places = {stream: (attempt.agent_id, attempt.seq or 0) for stream, attempt in self.attempts.items()}
        self._of_this_machine, self._last_seq = set(), {}  # no terminal is left that got anything

    def _written(self, recorded: Recorded) -> None:
        event, stream = recorded.event, recorded.stream
        self._position = recorded.version
        match event:
            case events.DeliveryOffered():
                former = self.attempts.get(stream)
                _hold(former is None and stream not in self._ended, f"ONE-END: {stream} begins twice")
                self.attempts[stream] = Attempt(
                    event.agent_id,
                    event.seq,
                    event.msg_id,
                    recorded.event_id,
                    event.late,
                    source=event.source,
                )
                if event.about:
                    _hold(event.about not in self._noticed, f"TRUE-END: {event.about!r} is told twice")
                    self._noticed.add(event.about)
                self._by_typing[recorded.event_id] = stream
                if event.source == delivery.LOCAL:
                    self._was_given.add(event.msg_id)
            case events.MessageAccepted() if event.recipient_id:
                self._posts[event.event_id] = Post(
                    event.event_id, recorded.version, event.author_id, event.recipient_id
                )
            case events.MessagePublishing():
                post = self._posts.get(stream.removeprefix("message:"))
                if post is not None and event.tries > HOLDS_LINE_TRIES:
                    post.is_free = True
            case events.MessagePublished():
                self._published(stream.removeprefix("message:"), event.message_id)
            case events.MessageRefused():
                if (post := self._posts.get(stream.removeprefix("message:"))) is not None:
                    post.is_open = False
            case events.DeliveryRecognised():
                self._recognised(self.attempts[stream], event)
            case events.DeliveryTakenOver():
                attempt = self.attempts[stream]
                _hold(bool(attempt.seq) and not attempt.in_custody, f"ONE-OWNER: {stream} cannot be taken over (again)")
                attempt.in_custody = True
                self._cover(attempt, "custody")
            case events.DeliveryInjecting():
                self.attempts[stream].intended = True
            case events.DeliveryFetched():
                attempt = self.attempts[stream]
                key = (attempt.agent_id, event.fetch_id, attempt.msg_id)
                _hold(
                    key in self._given, f"FETCHED-ONCE: {stream} is said to be fetched, and its agent was not given it"
                )
                attempt.is_typed = True
                self._cover(attempt, "fetched")
                self.marks.reach("a message was fetched")
            case events.DeliveryDoubted():
                self.attempts[stream].doubted, self.attempts[stream].records_fail = True, False
            case events.DeliveryHandedBack():
                self.attempts[stream].doubted = False  # what comes of the next hand-over is another matter
            case events.DeliveryAskedAgain() if self.attempts[stream].doubted:
                self.attempts[stream].records_fail = True
            case events.DeliveryLookedUp():
                self.attempts[stream].records_fail = event.outcome == "unknowable"
            case events.DeliveryInjected():
                attempt = self.attempts[stream]
                _hold(attempt.typing_id in self._whole, f"PROOF: {stream} is said to be typed and no terminal has it")
                attempt.is_typed = True
                self._cover(attempt, "typed")
            case events.DeliveryAcked():
                self._end(stream)
            case events.DeliveryDeadLettered():
                attempt = self._end(stream)
                self._settled_in_doubt(stream, attempt, event.reason)
                self._cover(attempt, event.reason)
                if event.in_doubt:
                    self._doubted[stream] = attempt
            case events.DeliveryDropped():
                attempt = self._end(stream)
                self._settled_in_doubt(stream, attempt, event.reason)
                if event.settled:
                    _hold(
                        event.reason in _MAY_SETTLE
                        or attempt.source == delivery.NOTICE
                        or self._is_copy(attempt, event),
                        f"NO-LOSS: {stream} is settled untyped because of {event.reason}",
                    )
                    self._cover(attempt, event.reason)
                elif attempt.source == delivery.LOCAL and not attempt.seq:
                    self._posts[attempt.msg_id].is_free = True
                elif attempt.seq:
                    _hold(not attempt.in_custody, f"ONE-OWNER: {stream} is given back from custody")
                    self._story(attempt.agent_id).returned.add(attempt.seq)
            case events.DeliveryHeld():
                _hold(event.until >= recorded.at, f"D13: {stream} is held until the past")
            case events.FrameBuffered():
                self._story(stream.partition(":")[2]).ahead.setdefault(event.seq, recorded.at)
            case events.RangeLost():
                self._lost(self._story(stream.partition(":")[2]), event, recorded.at)
            case events.FrameIgnored() if event.advances:
                self._duplicate(stream.partition(":")[2], event)
            case events.MailboxBased():
                self._based(self._story(stream.partition(":")[2]), event.base)
            case events.MailboxOpened():
                self._id_of_name[event.name] = stream.partition(":")[2]
                story = self._story(stream.partition(":")[2])
                story.acked, story.opened_at = -1, recorded.at
            case events.LinkOnline():
                self._online_at = recorded.at
            case events.NameReserved() if event.invocation_id:
                self._runs[event.invocation_id] = self._runs.get(event.invocation_id, 0) + 1
                _hold(self._runs[event.invocation_id] == 1, f"X1: {event.invocation_id} runs twice")
            case _:
                pass

    def _published(self, event_id: str, message_id: str) -> None:
        """The engine has a message: from now on it is known by both ids."""
        post = self._posts.get(event_id)
        if post is None:
            return
        post.is_open, post.message_id = False, message_id
        self._posts[message_id] = post
        story = self._story(post.recipient_id)
        if message_id in story.touched:  # its copy came first
            _hold(event_id not in story.touched, f"TYPED-ONCE: {event_id} is typed, and so is its copy {message_id}")
            story.touched[event_id] = story.touched.pop(message_id)

    def _recognised(self, attempt: Attempt, event: events.DeliveryRecognised) -> None:
        """The engine's copy of what was given from here: its number passes to that."""
        story = self._story(attempt.agent_id)
        post = self._posts.get(attempt.msg_id)
        _hold(
            post is not None and post.message_id == event.msg_id == story.posted.get(event.seq) and not attempt.seq,
            f"LOCAL-FIRST: message {event.seq} of {attempt.agent_id} is taken for {attempt.msg_id}",
        )
        for other in self.attempts.values():
            if other.agent_id == attempt.agent_id and other.seq == event.seq:
                _hold(not other.is_typed, f"TYPED-ONCE: {event.msg_id} is typed, and is the copy of {attempt.msg_id}")
                other.seq, other.gave_its_number = None, True
        attempt.seq, attempt.msg_id = event.seq, event.msg_id
        if attempt.is_typed:
            self._cover(attempt, "typed")

    def _end(self, stream: str) -> Attempt:
        attempt = self.attempts.pop(stream, None)
        _hold(attempt is not None, f"ONE-END: {stream} ends, and is not open")
        assert attempt is not None
        self._ended[stream] = None
        self._places.pop(stream, None)
        self._outbox.pop(stream, None)
        return attempt

    @staticmethod
    def _settled_in_doubt(stream: str, attempt: Attempt, reason: Reason) -> None:
        """What the records can tell is no matter of policy."""
        is_policy = attempt.doubted and reason is Reason.AMBIGUOUS
        _hold(attempt.records_fail or not is_policy, f"PROOF: the policy settles {stream}, and the records could tell")

    def _cover(self, attempt: Attempt, why: str) -> None:
        if attempt.seq:
            self._settle(self._story(attempt.agent_id), attempt.seq, why)

    def _settle(self, story: AgentStory, seq: int, why: str) -> None:
        story.covered[seq] = why
        story.covered_at.setdefault(seq, self._position)

    def _is_copy(self, attempt: Attempt, event: events.DeliveryDropped) -> bool:
        """Whether it is dropped as the copy of what was given from here, typed by now or not."""
        post = self._posts.get(attempt.msg_id)
        return event.reason is Reason.DUPLICATE and post is not None and post.message_id == attempt.msg_id

    def _lost(self, story: AgentStory, event: events.RangeLost, at: float) -> None:
        waited = at - max(self._online_at, story.opened_at)
        _hold(waited >= mailbox.GIVE_UP_S, f"D7: {event} after only {waited:.1f} s")
        story.ahead = {seq: since for seq, since in story.ahead.items() if seq > event.last}
        if event.first not in story.returned:
            waited = at - min(story.ahead.values())
            _hold(waited >= mailbox.GIVE_UP_S, f"NO-LOSS: {event} only {waited:.1f} s after what is behind it came")
        for seq in range(event.first, event.last + 1):
            _hold(seq not in story.covered, f"{seq} is declared lost and was {story.covered.get(seq)}")
            self._settle(story, seq, event.reason)
        in_hand = [one.seq for one in self.attempts.values() if self.agents[one.agent_id] is story and one.seq]
        for seq in in_hand:
            _hold(not event.first <= seq <= event.last, f"{seq} is declared lost and is in hand")

    def _duplicate(self, agent_id: str, event: events.FrameIgnored) -> None:
        story = self._story(agent_id)
        twins = [seq for seq, msg_id in story.posted.items() if msg_id == event.msg_id and seq != event.seq]
        post = self._posts.get(event.msg_id)
        is_given = post is not None and post.event_id in self._was_given
        _hold(
            event.reason is Reason.DUPLICATE and (bool(twins) or is_given),
            f"D6: {event.seq} of {agent_id} is no duplicate",
        )
        self._settle(story, event.seq, event.reason)

    @staticmethod
    def _based(story: AgentStory, base: int) -> None:
        story.base = base

    def leaving(self, effect: Effect) -> None:
        """An effect is carried out: whatever it claims must be on disk by now."""
        if isinstance(effect, effects.SendFrame) and effect.frame["type"] == "delivery.ack":
            self._ack_leaves(effect.frame["agent"], effect.frame["up_to_seq"])

    def _ack_leaves(self, name: str, up_to: int) -> None:
        agent_id = self._id_of_name[name]
        story = self._story(agent_id)
        _hold(story.base is not None, f"D2: ack {up_to} of {name} before its base is known")
        assert story.base is not None
        _hold(up_to >= story.acked, f"D2: ack {up_to} of {name} after {story.acked}")
        story.floor = max(story.floor, story.base)
        while story.floor < up_to:
            _hold(
                story.floor + 1 in story.covered,
                f"ACK-FLOOR: ack {up_to} of {name} leaves, and nothing settles {story.floor + 1}",
            )
            _hold(
                story.covered_at[story.floor + 1] <= self._synced,
                f"LOG-FIRST: ack {up_to} of {name} leaves, and what settles {story.floor + 1} is not on disk",
            )
            story.floor += 1
        story.acked = up_to

    def cut(self, lost: int, *, is_torn: bool) -> None:
        """The process died."""
        if is_torn:
            self.marks.reach("torn tail")
        if lost:
            self.marks.reach("records lost in a crash")

    def recovered(self, state: State, *, from_snapshot: bool) -> None:
        """A new process goes on."""
        self.marks.reach("recovered from a snapshot" if from_snapshot else "recovered from the whole log")
        check_bounds(state)


def check_fold(folded: State, live: State) -> None:
    """D14: the fold of the log is the live state."""
    if folded != live:
        differences = [name for name in State.__struct_fields__ if getattr(folded, name) != getattr(live, name)]
        raise Violation(f"D14: fold(log) differs from the live state in {differences}")


def check_bounds(state: State) -> None:
    """BOUNDED: nothing is larger than its documented number."""
    for box in state.mailboxes.values():
        _hold(len(box.buffer) <= mailbox.BUFFER_LIMIT, f"BOUNDED: {len(box.buffer)} frames are buffered")
        _hold(len(box.seen) <= mailbox.SEEN_WINDOW and len(box.fan) <= mailbox.SEEN_WINDOW, "BOUNDED: windows")
        _hold(len(box.came_late) <= mailbox.LATE_KEPT, f"BOUNDED: {len(box.came_late)} late numbers")
        _hold(box.floor <= box.recv, f"D2: floor {box.floor} above {box.recv} of {box.agent_id}")
    doubts = Counter(state.deliveries[stream].agent_id for stream in state.doubts)
    _hold(max(doubts.values(), default=0) <= delivery.INJECT_WINDOW, f"BOUNDED: {doubts} are in doubt")
    for program in state.workers.values():
        _hold(len(program.waiting) <= delivery.MAX_WAITING + 1, f"BOUNDED: {len(program.waiting)} deliveries wait")
        _hold(len(program.typing) <= delivery.INJECT_WINDOW, f"BOUNDED: {len(program.typing)} are with the host")
        ended = [stream for stream in (*program.waiting, *program.typing) if stream not in state.deliveries]
        _hold(not ended, f"ONE-END: {ended} ended and still wait")
    _hold(len(state.link.abandoned) <= ABANDONED_KEPT, "BOUNDED: abandoned requests")
    _hold(len(state.announcements) <= 2 * ANNOUNCEMENTS_KEPT, "BOUNDED: announcements")


def _is_notice(event: events.Event) -> bool:
    return isinstance(event, events.DeliveryOffered) and event.source == delivery.NOTICE


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Violation(otherwise)

"""Which rare branches were reached. A batch of seeds that misses one proves less than it seems to.

Source: ADR-0020.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from relaybroker.domain import events, inputs
from relaybroker.domain.delivery import LOCAL
from relaybroker.domain.events import Recorded
from relaybroker.domain.inputs import Input
from relaybroker.domain.reasons import Reason

REQUIRED = (
    "a gap was declared lost",
    "a resync was asked for",
    "a resync filled the gap",
    "a duplicate took its place in the sequence",
    "a repeated fan-out was ignored",
    "a conflicting sequence number was refused",
    "a stale frame was acknowledged again",
    "the base was adopted",
    "the base came from the engine",
    "in doubt: policy ask",
    "in doubt: policy at_least_once",
    "in doubt: policy at_most_once",
    "typed again with the mark",
    "the host said: typed before",
    "an injection was handed back and repeated",
    "attempts were exhausted",
    "a hold expired",
    "taken into custody",
    "acknowledged from custody before it was typed",
    "typed from custody",
    "a dead letter from custody",
    "the host was asked again",
    "returned and admitted again",
    "held: agent_starting",
    "held: agent_restarting",
    "held: not_ready",
    "held: blocked_by_dialog",
    "held: blocked_by_question",
    "held: agent_busy",
    "held: human_driving",
    "held: agent_suspended",
    "held: composer_unclear",
    "a shell was shown a message",
    "a person was called for a text that stood",
    "a text went in late",
    "a person changed a text that stood",
    "typed while the program worked",
    "refused: the mailbox is full",
    "poison was settled",
    "an unknown type was settled",
    "a receipt was settled",
    "an own message was settled",
    "too long a message was settled",
    "a stranger's frame was refused",
    "a retired agent's frame was refused",
    "a stranger's message was kept",
    "a retired agent's message was kept",
    "a message waited for a registration",
    "crash before the commit",
    "crash between commit and effects",
    "crash in the middle of the effects",
    "torn tail",
    "records lost in a crash",
    "the machine crashed",
    "the machine took records with it",
    "recovered from a snapshot",
    "recovered from the whole log",
    "the wall clock was set back",
    "the wall clock was set forward",
    "the PTY host died",
    "the connection to the PTY host broke",
    "a program ended by itself",
    "a program could not be started",
    "a program was started again",
    "a program was started again too often",
    "a release cancelled a restart",
    "the token was replaced",
    "the engine superseded the link",
    "the link fell silent",
    "a registration went on over HTTP",
    "a late register reply was undone",
    "a late register reply was kept",
    "a release was asked while registering",
    "the engine started an agent",
    "an invocation was repeated",
    "a message was published after a retry",
    "an agent answered with its own token",
    "a message was fetched",
    "an answer to a fetch broke off",
    "nobody said that a fetch was answered",
    "read elsewhere while it waited",
    "a sender was told",
    "given while the engine was away",
    "an answer given while the engine was away",
    "a copy was recognised by its id",
    "a copy waited until the engine said which message it is",
    "given here and back in the outbox",
    "a clean stop",
    "a door was chosen",
    "a door was passed over",
    "taken through a door",
    "in doubt: accepted",
    "in doubt: absent",
    "in doubt: unknowable",
    "in doubt after the end of its program",
    "a doubt was asked about again",
)
"""What every batch must have reached at least once."""

_IGNORED = {
    Reason.SEQ_CONFLICT: "a conflicting sequence number was refused",
    Reason.STALE: "a stale frame was acknowledged again",
    Reason.HOLD_FULL: "refused: the mailbox is full",
    Reason.UNKNOWN: "a stranger's frame was refused",
    Reason.RETIRED: "a retired agent's frame was refused",
}
_ENDED = {
    Reason.UNKNOWN: "a stranger's message was kept",
    Reason.RETIRED: "a retired agent's message was kept",
    Reason.POISON: "poison was settled",
    Reason.UNKNOWN_TYPE: "an unknown type was settled",
    Reason.RECEIPT_ONLY: "a receipt was settled",
    Reason.SELF_ECHO: "an own message was settled",
    Reason.READ_ELSEWHERE: "read elsewhere while it waited",
    Reason.TOO_LARGE: "too long a message was settled",
    Reason.HOLD_EXPIRED: "a hold expired",
    Reason.PTY_WRITE_FAILED: "attempts were exhausted",
}


class Marks:
    """Counts how often each branch was reached."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        self._resynced: dict[str, int] = {}
        self._custody: set[str] = set()
        self._doubted: set[str] = set()
        self._given: set[str] = set()
        self._taking = ""
        """The turn in which the newest one was taken over."""

    def reach(self, mark: str) -> None:
        """This branch was reached."""
        self.reached[mark] += 1

    def decided(self, item: Input | None, decided: Sequence[Recorded]) -> None:
        """From what the core was told."""
        del decided
        match item:
            case inputs.TextTyped(repeated=True):
                self.reach("the host said: typed before")
            case inputs.TextTyped(evidence="shown"):
                self.reach("a shell was shown a message")
            case inputs.TextNotTyped(reason=Reason.COMPOSER_UNCLEAR, typed="partly"):
                self.reach("a person changed a text that stood")
            case _:
                pass

    def recorded(self, recorded: Recorded) -> None:
        """From what became durable."""
        event, stream = recorded.event, recorded.stream
        match event:
            case events.RangeLost():
                self.reach("a gap was declared lost")
                self._resynced.pop(stream, None)
            case events.ResyncAsked():
                self.reach("a resync was asked for")
                self._resynced[stream] = event.first
            case events.FrameIgnored():
                self._ignored(event)
            case events.EarlyFrameKept():
                self.reach("a message waited for a registration")
            case events.MailboxBased() if event.source in ("adopted", "lowered"):
                self.reach(f"the base was {event.source}")
            case events.MailboxBased() if event.source == "engine":
                self.reach("the base came from the engine")
            case events.DeliveryOffered():
                if event.about:
                    self.reach("a sender was told")
                if event.source == LOCAL and event.attempt == 1:
                    self.reach("given while the engine was away")
                    if event.thread_id:
                        self.reach("an answer given while the engine was away")
                    self._given.add(stream)
                if event.attempt > 1:
                    self.reach("returned and admitted again")
                if event.seq and self._resynced.get(f"mailbox:{event.agent_id}") == event.seq:
                    self.reach("a resync filled the gap")
                    del self._resynced[f"mailbox:{event.agent_id}"]
            case events.DeliveryHeld():
                self.reach(f"held: {event.reason}")
            case events.DeliveryRecognised():
                self.reach("a copy was recognised by its id")
            case events.DeliveryTakenOver():
                self.reach("taken into custody")
                self._custody.add(stream)
                self._taking = recorded.causation
            case events.DeliveryAskedAgain():
                self.reach("a doubt was asked about again" if stream in self._doubted else "the host was asked again")
            case events.DoorChosen():
                self.reach("a door was chosen" if event.door else "a door was passed over")
            case events.DeliveryDoubted():
                self._doubted.add(stream)
                if event.reason is not Reason.NO_EVIDENCE:
                    self.reach("in doubt after the end of its program")
            case events.DeliveryLookedUp():
                self.reach(f"in doubt: {event.outcome}")
                self._doubted.discard(stream)
            case events.DeliveryInjected() if event.door and event.report:
                self.reach("taken through a door")
            case events.AckSent() if recorded.causation == self._taking:
                self.reach("acknowledged from custody before it was typed")
            case events.DeliveryInjected() if stream in self._custody:
                self.reach("typed from custody")
            case events.DeliveryHandedBack():
                self.reach("an injection was handed back and repeated")
            case events.DeliveryDropped() | events.DeliveryDeadLettered():
                if isinstance(event, events.DeliveryDeadLettered) and stream in self._custody:
                    self.reach("a dead letter from custody")
                if event.reason is Reason.DUPLICATE:
                    self.reach("a copy waited until the engine said which message it is")
                if isinstance(event, events.DeliveryDropped) and not event.settled and stream in self._given:
                    self.reach("given here and back in the outbox")
                if event.reason is Reason.AMBIGUOUS:
                    self.reach(f"in doubt: {event.detail.partition(':')[0]}")
                elif event.reason in _ENDED:
                    self.reach(_ENDED[event.reason])
            case events.LinkBackedOff() if event.reason is Reason.SUPERSEDED:
                self.reach("the engine superseded the link")
            case events.LinkBackedOff() if event.reason is Reason.NO_ANSWER:
                self.reach("the link fell silent")
            case events.LinkBackedOff() if event.reason is Reason.TOKEN_REJECTED:
                self.reach("the token was replaced")
            case events.RegistrationFellBack():
                self.reach("a registration went on over HTTP")
            case events.LateRegistrationRefused():
                self.reach("a late register reply was undone")
            case events.LateRegistrationKept() | events.AgentTokenRotated():
                self.reach("a late register reply was kept")
            case events.RegistrationFailed() if event.reason is Reason.AGENT_RELEASED:
                self.reach("a release was asked while registering")
            case events.AgentRestarted():
                self.reach("a program was started again")
            case events.WorkerExited(report=0) if event.reason is Reason.AGENT_RELEASED:
                self.reach("a release cancelled a restart")
            case events.AgentGivenUp():
                self.reach("a program was started again too often")
            case events.WorkerExited() if event.reason is Reason.WORKER_EXITED:
                self.reach("a program ended by itself")
            case events.WorkerExited() if event.reason is Reason.CLI_NOT_FOUND:
                self.reach("a program could not be started")
            case events.NameReserved() if event.invocation_id:
                self.reach("the engine started an agent")
            case events.ActionRepeated():
                self.reach("an invocation was repeated")
            case events.MessagePublishing() if event.tries > 1:
                self.reach("a message was published after a retry")
            case events.BrokerLeft():
                self.reach("a clean stop")
            case _:
                pass

    def _ignored(self, event: events.FrameIgnored) -> None:
        if event.reason in _IGNORED:
            self.reach(_IGNORED[event.reason])
        elif event.reason is Reason.DUPLICATE:
            taken = "a duplicate took its place in the sequence"
            self.reach(taken if event.advances else "a repeated fan-out was ignored")

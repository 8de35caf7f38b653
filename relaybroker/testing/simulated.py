"""A broker for tests: the real core, with engine, terminals, disk and clock simulated; exact, fast, and the same for every run of a seed.

Time stands still between calls. Every promise of `simulation.checks` is watched at every step: a broken one fails the test where it broke.
A failed expectation prints the stories of `relaybroker why`.

Source: spec/architecture.md section 9; docs/testing.md.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from relaybroker.adapters.eventstore import recorders
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.adapters.http.api.rendering import STATUS, rendered
from relaybroker.audit import telling
from relaybroker.audit.finding import NotFoundError
from relaybroker.audit.story import tell
from relaybroker.domain import effects, inputs
from relaybroker.domain.dead_letter import DeadLetter
from relaybroker.domain.effects import Effect
from relaybroker.domain.errors import InvalidRequest
from relaybroker.domain.events import REGISTRY, DeliveryOffered, Recorded
from relaybroker.domain.message import THREAD
from relaybroker.domain.state import State
from relaybroker.domain.story import Story
from relaybroker.testing.broker import TESTER, Message
from relaybroker.testing.refusal import Refused
from relaybroker.testing.simulation import engine as engines
from relaybroker.testing.simulation import host as hosts
from relaybroker.testing.simulation import run
from relaybroker.testing.simulation.checks import Promises, Violation
from relaybroker.testing.simulation.marks import Marks
from relaybroker.testing.simulation.node import Crash
from relaybroker.testing.simulation.world import Plan, World

WITHIN_S = 60.0
"""Simulated seconds within which an expectation must come true, unless it says otherwise."""

ONLINE_S = 360.0
"""Simulated seconds within which the broker comes online: the longest pause of a refused link, and a minute."""

ACCOUNTED = 3
"""Messages whose stories a failed test shows."""


@dataclass(frozen=True)
class Published:
    """A message that an agent or person sent and the engine has: who it is for, and what it says."""

    to: str
    text: str
    key: str
    """Idempotency key: the engine takes it once."""


class _Witness(Promises):
    """Watches the promises, and notes what a test may ask for."""

    def __init__(self) -> None:
        super().__init__(Marks())
        self.texts: dict[str, list[str]] = {}
        self.sent: list[Published] = []
        self.replies: dict[str, effects.Reply] = {}

    def typed(self, session: hosts.Session, wanted: effects.TypeText) -> None:
        super().typed(session, wanted)
        self.texts.setdefault(session.name, []).append(wanted.text)

    def published(self, key: str, path: str, body: Any) -> None:
        super().published(key, path, body)
        self.sent.append(Published(str(body.get("to", "")), str(body.get("text", "")), key))

    def leaving(self, effect: Effect) -> None:
        super().leaving(effect)
        if isinstance(effect, effects.Reply):
            self.replies[effect.request_id] = effect


class SimulatedBroker:
    """One broker on one simulated node. It starts online and without agents.

    Args:
        seed: what chance does: latencies, boot times. The same seed gives the same run.
        in_doubt: what becomes of a message that may have been typed: `ask`, `at_least_once`, `at_most_once`.
        engine: how the engine behaves; by default a good one that loses nothing.
        terminals: how programs and terminals behave; by default they start within half a second and take every text.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        in_doubt: str = "ask",
        engine: engines.Traits | None = None,
        terminals: hosts.Traits | None = None,
    ) -> None:
        plan = Plan(
            seed=seed,
            policy=in_doubt,
            engine=engine or engines.Traits(),
            host=terminals or hosts.Traits(boot_s=(0.05, 0.5)),
        )
        self._witness = _Witness()
        self._world = World(plan, promises=self._witness)
        self._world.engine.person(TESTER)
        self._world.node.start()
        self.wait(lambda: self._world.node.is_online, within_s=ONLINE_S, what="the broker is online")

    # --- time and what holds ----------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Simulated seconds since the beginning."""
        return self._world.timeline.now

    def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0) -> None:
        """Let this much time pass, with everything that happens in it."""
        self._world.timeline.run(seconds + 60.0 * minutes + 3600.0 * hours)

    def set_clock(self, seconds: float = 0.0, *, hours: float = 0.0) -> None:
        """Set the wall clock of the machine forward, or back (negative); the time that has passed stays what it is."""
        self._world.timeline.wall_offset += seconds + 3600.0 * hours

    def wait(self, holds: Callable[[], Any], *, within_s: float = WITHIN_S, what: str = "the condition") -> None:
        """Let time pass until something holds.

        Raises:
            AssertionError: it did not within so many simulated seconds.
        """
        self._expect(holds, within_s, what, ())

    def verify(self) -> None:
        """Check what is too dear to check at every step: the log folds to the live state, and nothing is above its bound.

        The fixture does it at the end of each test.
        """
        self._world.check()

    def settle(self) -> None:
        """End every fault, answer every dialog, and let ten minutes pass at most: then nothing may be open any more.

        Raises:
            AssertionError: something is, or something is not right.
        """
        self._world.node.start()
        run.heal(self._world)

    # --- agents -------------------------------------------------------------------------------------------------------------

    def spawn(self, name: str, *, cli: str = "cat", task: str = "") -> None:
        """Start an agent and wait until it takes input.

        Raises:
            Refused: the broker or the engine did not have it.
        """
        spec = inputs.SpawnSpec(name=name, cli=cli, task=task)
        self._ask(lambda request_id: inputs.SpawnRequested(request_id=request_id, spec=spec))
        self.wait(lambda: (session := self._session(name)) and session.was_ready, what=f"{name} takes input")

    def release(self, name: str) -> None:
        """End an agent as a person does.

        Raises:
            Refused: there is none of this name.
        """
        self._ask(lambda request_id: inputs.ReleaseRequested(request_id=request_id, name=name))

    def exit_agent(self, name: str, code: int = 0) -> None:
        """The agent's program ends by itself."""
        self._world.host.exit(self._living(name), code)

    def show_dialog(self, name: str) -> None:
        """A dialog comes up on the agent's screen: nothing is typed into it."""
        self._world.host.open_dialog(self._living(name))

    def answer_dialog(self, name: str) -> None:
        """A person answers the dialog, or changes or clears a text that stands."""
        self._world.host.clear(self._living(name))

    def occupy(self, name: str, reason: str = "agent_busy", *, patience_s: float = 300.0) -> None:
        """Somebody has the agent's terminal: `reason` says who.

        The agent works (`agent_busy`) or is stopped (`agent_suspended`), a person types (`human_driving`) or left a text in the
        composer (`composer_unclear`); the last two do not matter to a shell, which is shown its messages.
        Into a terminal whose agent works, messages go all the same after `patience_s`.
        """
        self._world.host.occupy(self._living(name), reason, patience_s if reason == "agent_busy" else 0.0)

    def free(self, name: str) -> None:
        """The agent's terminal is free again."""
        self._world.host.free(self._living(name))

    def swallow_enter(self, name: str) -> None:
        """Enter submits nothing in the agent's terminal any more: what is typed stands in its composer until `submit`."""
        self._living(name).keeps_text = True

    def submit(self, name: str) -> None:
        """A person presses Enter in the agent's terminal, and it submits."""
        self._world.host.submit(self._living(name))

    def hold(self, name: str) -> None:
        """Keep messages for an agent until `flush` (delivery mode `manual_flush`)."""
        self._ask(lambda r: inputs.DeliveryModeRequested(request_id=r, name=name, mode="manual_flush"))

    def unhold(self, name: str) -> None:
        """Type messages as they come again, and those that were held."""
        self._ask(lambda r: inputs.DeliveryModeRequested(request_id=r, name=name, mode="auto_inject"))

    def flush(self, name: str) -> int:
        """Type what is held; how many that is."""
        return int(self._ask(lambda r: inputs.FlushRequested(request_id=r, name=name))["flushed"])

    # --- messages -------------------------------------------------------------------------------------------------------------

    def person(self, name: str) -> None:
        """Somebody at the engine of whom no program runs; such a one posts what `deliver` posts."""
        self._world.engine.person(name)

    def known(self, name: str) -> None:
        """An agent that the engine knows from earlier, and of which no program runs yet: messages can be posted for it."""
        if self._world.engine.named(name) is None:
            self._world.engine.create(name)

    def join(self, name: str, channel: str) -> None:
        """An agent or person becomes a member of a channel, which is made if there is none. All agents are in `general`."""
        self._world.engine.talk.join(channel.removeprefix("#"), self._id_of(name))

    def deliver(
        self,
        to: str,
        text: str,
        *,
        sender: str = TESTER,
        thread: str = "",
        mode: str = "wait",
        payload: Any = None,
        **fields: Any,
    ) -> Message:
        """Post a message at the engine; it is on its way when this returns.

        Args:
            to: an agent, or a channel with its `#`.
            text: what it says.
            sender: who posts it: a person, or an agent beside its broker.
            thread: the message that it answers.
            mode: `wait`, or `steer`: also while the agent works.
            payload: the whole payload instead, for the agent `to`; anything.
            fields: further members of the payload's `data`, such as `expires_at`.

        Raises:
            Refused: there is no such agent, channel, sender or message, or the mailbox of the agent is full.
        """
        engine, author = self._world.engine, self._id_of(sender)
        if payload is not None:
            agent, msg_id = engine.named(to), engine.fresh_message_id()
            if agent is None:
                raise Refused(404, "agent_not_found", f"there is no agent {to}")
            row = engine.post(agent, payload, msg_id, mode)
            return self._posted(to, msg_id, {} if row is None else {to: row.seq})
        if thread:
            if str(thread) not in engine.talk.said:
                raise Refused(404, "message_not_found", f"there is no message {thread}")
            made = engine.say_in_thread(author, str(thread), text, mode=mode, **fields)
        elif to.startswith("#"):
            if to.removeprefix("#") not in engine.talk.members:
                raise Refused(404, "channel_not_found", f"there is no channel {to}")
            made = engine.say_in_channel(author, to.removeprefix("#"), text, mode=mode, **fields)
            return Message(made.msg_id, to)
        else:
            self._id_of(to)
            made = engine.say_directly(author, to, text, mode=mode, **fields)
        return self._posted(to, made.msg_id, made.seqs)

    def _posted(self, to: str, msg_id: str, seqs: dict[str, int]) -> Message:
        if to not in seqs and self._world.engine.named(to) is not None:
            raise Refused(201, "depth_cap", f"the engine's mailbox of {to} is full")
        return Message(msg_id, to, seqs.get(to, 0))

    def _id_of(self, name: str) -> str:
        agent_id = self._world.engine.id_of(name)
        if not agent_id:
            raise Refused(404, "agent_not_found", f"there is nobody called {name} at the engine")
        return agent_id

    def send(self, to: str, text: str, *, sender: str = "", thread: str = "", key: str = "") -> dict[str, Any]:
        """Send a message through the local API, as an agent that lives here or (by default) as the broker itself; the API's answer.

        Raises:
            Refused: the broker or the engine did not take it; there is no such agent, channel, sender or thread.
        """
        named = to.removeprefix(THREAD) if to.startswith(THREAD) else str(thread)
        return self._ask(
            lambda r: inputs.SendRequested(
                request_id=r, to=to, text=text, sender=sender, thread_id=named, key=key, strict=True
            ),
            within_s=WITHIN_S,
        )

    def fetch(self, name: str, limit: int = 20) -> list[dict[str, Any]]:
        """An agent takes what waits for it (`check_inbox`): it is not typed any more.

        Raises:
            Refused: there is no such agent.
        """
        agent_id = self._living(name).agent_id
        asked = self._ask(
            lambda r: self._world.asked_to_fetch(r, agent_id, limit),
        )
        taken: list[dict[str, Any]] = asked["messages"]
        if taken:
            self._world.node.put(inputs.FetchEnded(agent_id=agent_id, fetch_id=asked["fetch_id"], answered=True))
            self.advance(0.1)
        return taken

    def typed(self, name: str) -> list[str]:
        """Everything that was typed, with Enter, into terminals of agents of this name, oldest first."""
        return list(self._witness.texts.get(name, ()))

    def published(self) -> list[Published]:
        """What the engine has of messages that were sent from here, oldest first."""
        return list(self._witness.sent)

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters, oldest first."""
        return list(self.state.dead_letters.values())

    def redeliver(self, message: Message, *, force: bool = False) -> None:
        """Type a dead letter after all.

        Raises:
            Refused: it is none, or it cannot be typed now; one that may have been typed needs `force`.
        """
        letters = tuple(one.letter_id for one in self.dead_letters() if one.msg_id == message.msg_id)
        named = letters or (message.msg_id,)
        self._ask(lambda r: inputs.RedeliverRequested(request_id=r, letter_ids=named, force=force))

    def is_acked(self, message: Message) -> bool:
        """Whether the engine has the acknowledgement of this message."""
        agent = self._world.engine.named(message.to)
        if not message.seq:
            raise Refused(
                409, "several_recipients", f"{message} was posted to {message.to}: ask for one agent's delivery"
            )
        return agent is not None and agent.acked >= message.seq

    # --- expectations -----------------------------------------------------------------------------------------------------------

    def expect_typed(self, name: str, *texts: str, within_s: float = WITHIN_S) -> None:
        """The agent has been typed, or is within the time, messages that contain these texts, in this order.

        Raises:
            AssertionError: it was not; with the agent's story.
        """

        def holds() -> bool:
            rest = iter(self._witness.texts.get(name, ()))
            return all(any(text in one for one in rest) for text in texts)

        self._expect(holds, within_s, f"{name} is typed {', '.join(map(repr, texts))}", (name,))

    def expect_acked(self, *messages: Message, within_s: float = WITHIN_S) -> None:
        """The engine has the acknowledgements of these messages, or gets them within the time.

        Raises:
            AssertionError: not of all; with their stories.
        """

        def holds() -> bool:
            return all(self.is_acked(message) for message in messages)

        self._expect(holds, within_s, "acknowledged", [one for one in messages if not self.is_acked(one)])

    def expect_dead_letter(self, message: Message, reason: str = "", *, within_s: float = WITHIN_S) -> DeadLetter:
        """The message is a dead letter, or becomes one within the time; for this reason, if one is given.

        Raises:
            AssertionError: it is none, or for another reason; with its story.
        """

        def dead_letter() -> DeadLetter | None:
            if not self._world.node.is_up:
                return None
            letters = (one for one in self.dead_letters() if one.msg_id == message.msg_id)
            return next((one for one in letters if not reason or one.reason == reason), None)

        self._expect(dead_letter, within_s, f"a dead letter{f' ({reason})' if reason else ''}", (message,))
        letter = dead_letter()
        assert letter is not None
        return letter

    def expect_outcome(self, message: Message, state: str, reason: str = "", *, within_s: float = WITHIN_S) -> Story:
        """`relaybroker why` says this state (`acked`, `dropped`, `held`, …) and reason of the message, or does so within the time.

        Raises:
            AssertionError: it says something else; with what it says.
        """
        end = self.now + within_s
        while True:
            stories = self.stories(message)
            story = next((one for one in stories if (one.state, one.reason) == (state, reason)), None)
            if story is not None:
                return story
            if self.now >= end:
                raise AssertionError(f"not {state} {reason} within {within_s:g} s\n{self.why(message)}")
            self.advance(min(1.0, end - self.now))

    def stories(self, wanted: Message | str) -> list[Story]:
        """What `relaybroker why` knows of a message, agent, invocation or `node`; empty if nothing."""
        with self._log() as log:
            try:
                return tell(log, str(wanted))
            except NotFoundError:
                return []

    def why(self, wanted: Message | str) -> str:
        """What `relaybroker why` prints."""
        stories = self.stories(wanted)
        if not stories:
            return f"the log has nothing about {wanted}"
        return "\n".join(line for story in stories for line in (telling.headline(story), *telling.chain(story)))

    def account(self) -> str:
        """What a failed test shows: when it is, who runs, and the stories of the newest messages."""
        offered = [one.event for one in self.events() if isinstance(one.event, DeliveryOffered)]
        messages = dict.fromkeys(event.msg_id for event in reversed(offered) if event.msg_id)
        state = "runs" if self.is_up else "does not run"
        stories = (self.why(wanted) for wanted in list(messages)[:ACCOUNTED])
        return "\n".join((f"after {self.now:.3f} simulated s; the broker {state}; the newest messages:", *stories))

    def events(self, topic: str = "") -> list[Recorded]:
        """What the log has, oldest first; of one topic, if one is given (docs/events.md)."""
        return [one for one in self._world.disk.records() if topic in ("", one.event.topic)]

    @property
    def state(self) -> State:
        """The core's live state, for reading.

        Raises:
            Refused: no broker runs.
        """
        state = self._world.state
        if state is None:
            raise Refused(503, "not_running", "the broker does not run")
        return state

    # --- faults -------------------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Kill -9 of the broker, now; the commit under way may survive in part. Terminals and engine live on."""
        self._world.node.crash(Crash(survive=self._world.random.random(), stay_down_s=math.inf))

    def crash_at_next_commit(self, *, effects: float = 0.0) -> None:
        """Kill -9 of the broker as soon as its next decision is on disk, when this share of what follows from it has gone out.

        Raises:
            Refused: no broker runs.
        """
        self._must_run()
        self._world.node.armed = Crash(survive=1.0, effects=effects, stay_down_s=math.inf)

    def restart(self) -> None:
        """Start the broker again over its log; it is online when this returns, if the engine is there.

        Raises:
            Refused: it runs.
        """
        if self.is_up:
            raise Refused(409, "already_running", "the broker runs; crash() ends it")
        self._world.node.start()
        if self._world.engine.is_up:
            self.wait(lambda: self._world.node.is_online, within_s=ONLINE_S, what="the broker is online again")

    @property
    def is_up(self) -> bool:
        """Whether a broker runs."""
        return self._world.node.is_up

    def disconnect(self) -> None:
        """The engine goes away and answers nothing; what it has for agents stays."""
        self._world.engine.is_up = False
        self._world.engine.drop("eof")

    def reconnect(self) -> None:
        """The engine is there again; the broker is online when this returns."""
        self._world.engine.is_up = True
        self.wait(lambda: self._world.node.is_online, within_s=ONLINE_S, what="the broker is online again")

    def drop_link(self) -> None:
        """The connection to the engine breaks; the broker connects again by itself."""
        self._world.engine.drop("eof")

    def kill_terminals(self) -> None:
        """Kill -9 of the PTY host: every program is gone, and whether a text under way was typed is unknown."""
        self._world.host.die()

    # --- inside -------------------------------------------------------------------------------------------------------------------

    def _session(self, name: str) -> hosts.Session | None:
        ended = ("stopping", "exited")
        living = [one for one in self._world.host.sessions.values() if one.name == name and one.state not in ended]
        return living[-1] if living else None

    def _living(self, name: str) -> hosts.Session:
        session = self._session(name)
        if session is None:
            raise Refused(404, "agent_not_found", f"no program of {name} runs")
        return session

    def _must_run(self) -> None:
        if not self._world.node.is_up:
            raise Refused(503, "not_running", "the broker does not run")

    def _ask(self, request: Callable[[str], inputs.Input], *, within_s: float = WITHIN_S) -> dict[str, Any]:
        """Put a request to the local API and wait for the answer."""
        self._must_run()
        request_id, replies = self._world.request_id(), self._witness.replies
        self._world.node.put(request(request_id))
        self.wait(lambda: request_id in replies, within_s=within_s, what="the broker's answer")
        try:
            answer: dict[str, Any] = msgspec.to_builtins(rendered(replies.pop(request_id)))
        except InvalidRequest as error:
            raise Refused(STATUS[error.kind], error.code, error.message) from error
        return answer

    def _expect(self, holds: Callable[[], Any], within_s: float, what: str, about: Any) -> None:
        timeline = self._world.timeline
        end = timeline.now + within_s
        while not holds():
            if not timeline.step(end):
                timeline.run(max(0.0, end - timeline.now))
                stories = "\n".join(self.why(one) for one in about)
                raise AssertionError(f"not within {within_s:g} simulated s: {what}\n{stories}")

    @contextmanager
    def _log(self) -> Iterator[LogReader]:
        """The log in a database, as a broker writes it."""
        with tempfile.TemporaryDirectory(prefix="relaybroker-simulated-") as folder:
            path = Path(folder) / "journal-desk.sqlite"
            recorders.create_sqlite(path)
            recorder = recorders.open_sqlite(path)
            recorder.insert_events([row.stored for row in self._world.disk.rows])
            recorder.checkpoint()
            recorder.close()
            reader = LogReader.open(path, registry=REGISTRY)
            try:
                yield reader
            finally:
                reader.close()


__all__ = ["Message", "Published", "Refused", "SimulatedBroker", "Violation"]

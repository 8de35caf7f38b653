"""The broker process: rounds of the core, effects after the commit, and what dies with it.

The order guarantees are those of `runtime`, `dispatch` and `host_link` in `relaybroker.node` and of `relaybroker.adapters.websocket.link`:
a round takes what is there and decides at one moment; commits are pipelined; effects go out in order, each round's after its own commit;
one input ends each dial; `HostAttached` comes before every report of its attachment and `HostLost` after all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from relaybroker.adapters.http.engine_calls import HttpCall, http_call
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.domain import effects, inputs
from relaybroker.domain.broker import Broker
from relaybroker.domain.effects import Effect, Grade
from relaybroker.domain.events import Harness, Recorded
from relaybroker.domain.inputs import Input, Settings
from relaybroker.domain.state import State
from relaybroker.node.clock import SteadyClock
from relaybroker.node.inbox import ROUND
from relaybroker.testing.simulation.disk import Batch, Disk
from relaybroker.testing.simulation.engine import Engine, Socket
from relaybroker.testing.simulation.host import Connection, Host
from relaybroker.testing.simulation.timeline import Appointment, Pipe, Timeline

IDLE_LINK_S = 48.0
_RESTLESS = 200
"""Rounds in a row that leave a deadline due: then the core does not come to rest."""


def plain_harness(argv: tuple[str, ...], _name: str = "") -> Harness:
    """What the core needs to know of a program: a shell is one, and everything else a program that reads what it is typed."""
    is_shell = harnesses.profile_for(argv).treatment == "show"
    return Harness(profile="shell" if is_shell else harnesses.DEFAULT)


class Watcher(Protocol):
    """Who watches the process from outside."""

    def deciding(self, item: Input | None, decided: Sequence[Recorded]) -> None:
        """The core has decided about one input (None: about the time)."""

    def written(self, events: Sequence[Recorded]) -> None:
        """These events are in the log for good, as long as the machine lives."""

    def synced(self, upto: int) -> None:
        """The log is on disk up to this position."""

    def rewound(self, log: Sequence[Recorded]) -> None:
        """The machine crashed, and this is what it left of the log."""

    def leaving(self, effect: Effect) -> None:
        """This effect is carried out now."""

    def cut(self, lost: int, *, is_torn: bool) -> None:
        """The process died; this many records are lost. `is_torn`: a part of the commit under way survived."""

    def recovered(self, state: State, *, from_snapshot: bool) -> None:
        """A new process has folded the log and goes on from there."""


@dataclass(frozen=True)
class Crash:
    """How the process ends at one of its next commits.

    `survive`: the share of the records of that commit that are found again. `effects`: the share of its effects that still went out;
    only a commit that survived whole has any.
    """

    survive: float
    effects: float = 0.0
    stay_down_s: float = 1.0


class Node:
    """One broker process after another, over one disk."""

    def __init__(
        self,
        timeline: Timeline,
        random: Random,
        *,
        disk: Disk,
        engine: Engine,
        host: Host,
        watcher: Watcher,
        settings: Settings,
        make: Callable[[State], Broker] = lambda state: Broker(plain_harness, state),
    ) -> None:
        self._timeline = timeline
        self._random = random
        self.disk = disk
        disk.owner = self
        self._engine = engine
        engine.close_node_side = self._engine_closed
        self._host = host
        host.lost_broker = self._host_lost
        self._watcher = watcher
        self.settings = settings
        self._make = make
        self.recover: Callable[[bool], State] = lambda use_snapshot: disk.recover(use_snapshot=use_snapshot)
        """How the next process finds its state."""
        self.replied: Callable[[effects.Reply], None] = lambda _reply: None
        """Who asked hears the answer."""
        self.core: Broker | None = None
        self.boots = 0
        self.machine_boots = 1
        self.machine_share: float | None = None
        """Where the log is to end, the machine dies too, and takes this share of what is not synced; None = only the process."""
        self.armed: Crash | None = None
        self.exited: effects.ExitBroker | None = None
        self._inbox: deque[Input] = deque()
        self._clock = SteadyClock(0.0, wall=timeline.wall, pace=timeline.pace)
        self._step_at: Appointment | None = None
        self._wake_at: Appointment | None = None
        self._restless = 0
        self._dial = 0
        self._socket: Socket | None = None
        self._to_engine: Pipe | None = None
        self._connection: Connection | None = None
        self._to_host: Pipe | None = None
        self._attaching = False
        self.token_serial = 0
        """Of the node token in the vault."""
        self.down_until = 0.0

    # --- life ---------------------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether a process runs."""
        return self.core is not None

    @property
    def is_online(self) -> bool:
        """Whether its link is online."""
        return self.core is not None and self.core.state.link.state == "online"

    @property
    def is_quiet(self) -> bool:
        """Nothing waits to be decided or written."""
        return not self._inbox and self.disk.is_idle

    def start(self) -> None:
        """A new process folds the log and takes over."""
        if self.core is not None:
            return
        use_snapshot = self._random.random() < 0.7 and self.disk.snapshot is not None
        self.disk.sync()
        self._watcher.synced(self.disk.position)
        state = self.recover(use_snapshot)
        self._watcher.recovered(state, from_snapshot=use_snapshot)
        self.boots += 1
        self.exited = None
        self._clock = SteadyClock(state.now, wall=self._timeline.wall, pace=self._timeline.pace)
        self.core = self._make(state)
        self._inbox.clear()
        self._dial, self._attaching = state.link.dial, False
        self.put(
            inputs.BrokerStarted(
                boot_id=f"bo_{self.boots}",
                machine_boot=f"run_{self.machine_boots}",
                entropy=f"{self.boots:08x}{self._random.getrandbits(96):024x}",
                settings=self.settings,
                has_node_token=self.token_serial > 0,
                has_own_token=True,
                own_agent_id="900",
            )
        )

    def crash(self, how: Crash) -> None:
        """Kill -9: what is not durable is gone, and so is whatever the process knew."""
        if self.core is None:
            return
        self._end(self.disk.in_commit if how.survive == 1.0 else int(self.disk.in_commit * how.survive))
        self.down_until = self._timeline.now + how.stay_down_s
        self._timeline.after(how.stay_down_s, self.start)

    def crash_machine(self, share: float, stay_down_s: float) -> int:
        """The machine dies with everything that runs on it, and with this share of what is not synced: so many records."""
        if self.core is not None:
            self._end(0)
        self._host.die()
        lost = self.disk.lose(share)
        self._watcher.rewound(self.disk.records())
        self.machine_boots += 1
        self.down_until = self._timeline.now + stay_down_s
        self._timeline.after(stay_down_s, self.start)
        return lost

    def cut(self, kept: int) -> None:
        """The log ends inside a commit, where it was to end."""
        self.disk.stop_at = None
        self._end(kept)
        if self.machine_share is None:
            self._timeline.after(1.0, self.start)
        else:
            self.crash_machine(self.machine_share, 1.0)

    def _end(self, kept: int) -> None:
        self.core = None
        self.armed = None
        whole = self.disk.in_commit
        survivors, lost = self.disk.crash(kept)
        self._watcher.written(survivors)
        self._watcher.cut(lost, is_torn=0 < kept < whole)
        for appointment in (self._step_at, self._wake_at):
            if appointment is not None:
                appointment.cancel()
        self._step_at = self._wake_at = None
        self._inbox.clear()
        self._leave_engine()
        self._leave_host()

    def put(self, item: Input) -> None:
        """Hand an input to the core; lost if there is no process."""
        if self.core is None:
            return
        self._inbox.append(item)
        if self._step_at is None:
            self._step_at = self._timeline.after(self._random.uniform(0.0, 0.002), self._step)

    def _step(self) -> None:
        """One round, as the loop of the runtime does it."""
        core = self.core
        assert core is not None
        self._step_at = None
        taken = [self._inbox.popleft() for _ in range(min(len(self._inbox), ROUND))]
        now = self._clock()
        decided: list[Recorded] = []
        wanted: list[Effect] = []
        if leapt_s := self._clock.take_leap():
            leap = inputs.ClockLeapt(by_s=leapt_s)
            decision = core.handle(leap, now)
            self._watcher.deciding(leap, decision.events)
            decided += decision.events
            wanted += decision.effects
        due = core.next_deadline()
        if due is not None and due <= now:
            decision = core.on_time(now)
            self._watcher.deciding(None, decision.events)
            decided += decision.events
            wanted += decision.effects
        for item in taken:
            decision = core.handle(item, now)
            self._watcher.deciding(item, decision.events)
            decided += decision.events
            wanted += decision.effects
        if decided or wanted:
            self.disk.append(decided, wanted)
        if self._inbox and self._step_at is None:
            self._step_at = self._timeline.after(self._random.uniform(0.0, 0.002), self._step)
        self._wake(core, now)

    def _wake(self, core: Broker, now: float) -> None:
        if self._wake_at is not None:
            self._wake_at.cancel()
            self._wake_at = None
        due = core.next_deadline()
        if due is None:
            return
        self._restless = self._restless + 1 if due <= now else 0
        if self._restless > _RESTLESS:
            raise AssertionError(f"the core does not come to rest: {due} is due at {now}")
        self._wake_at = self._timeline.after(max(0.01, due - now + 1e-6), self._woken)

    def _woken(self) -> None:
        self._wake_at = None
        if self._step_at is None:
            self._step()

    def written(self, group: Sequence[Batch]) -> None:
        """A commit is done: what follows from it within the machine goes out, unless the process dies here."""
        for batch in group:
            self._watcher.written(batch.events)
        self._let_out(group, Grade.WRITTEN)

    def committed(self, group: Sequence[Batch]) -> None:
        """An fsync is done: everything else goes out, unless the process dies here."""
        self._watcher.synced(self.disk.synced)
        self._let_out(group, Grade.DURABLE)
        if self.core is not None and self.is_quiet:
            self.disk.keep_snapshot(self.core.state)

    def _let_out(self, group: Sequence[Batch], grade: Grade) -> None:
        """Carry out the effects of this grade; a process that is to die dies after a share of them."""
        wanted = [effect for batch in group for effect in batch.effects if effects.GRADES[type(effect)] is grade]
        armed = self.armed
        for effect in wanted if armed is None else wanted[: round(len(wanted) * armed.effects)]:
            self._watcher.leaving(effect)
            self._carry_out(effect)
        if armed is not None and self.core is not None:
            self.crash(armed)

    # --- effects ------------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case effects.SendFrame(dial=dial, frame=frame):
                if self._to_engine is not None and dial == self._dial:
                    self._to_engine.send(frame)
            case (
                effects.TypeText()
                | effects.LookUp()
                | effects.StartProgram()
                | effects.StopProgram()
                | effects.ForgetProgram()
                | effects.EndHost()
            ):
                if self._to_host is not None:
                    self._to_host.send(effect)
            case effects.ConfirmReports(host_id=host_id):
                if self._to_host is not None and host_id == self._host.host_id:
                    self._to_host.send(effect)
            case effects.DialEngine(dial=dial):
                self._dial_engine(dial)
            case effects.CloseLink(dial=dial, detail=detail):
                self._close_link(dial, detail)
            case effects.EngineCall():
                self._call(http_call(effect))
            case effects.AttachHost():
                self._attach()
            case effects.ExitBroker():
                self.exited = effect
                self.crash(Crash(survive=1.0, stay_down_s=self._random.uniform(0.1, 3.0)))
            case effects.Reply():
                self.replied(effect)
            case effects.Announce():
                pass
            case _:
                raise AssertionError(f"nothing in this simulation asks for {type(effect).__name__}")

    # --- the engine -----------------------------------------------------------------------------------------------------

    def _dial_engine(self, dial: int) -> None:
        self._leave_engine()
        self._dial = dial
        self._timeline.after(self._random.uniform(*self._engine.traits.latency_s), self._dialled, dial, self.boots)

    def _dialled(self, dial: int, boot: int) -> None:
        if self.core is None or boot != self.boots or dial != self._dial:
            return
        status, detail = self._engine.answer_dial(self.token_serial)
        if status != 101:
            self.put(inputs.LinkDialFailed(dial=dial, status=status, detail=detail))
            return
        socket = Socket(dial)
        latency = self._engine.traits.latency_s
        socket.to_node = Pipe(self._timeline, self._random, latency, lambda frame: self._frame(dial, boot, frame))
        self._engine.accept(socket)
        self._socket = socket
        self._to_engine = Pipe(self._timeline, self._random, latency, lambda frame: self._engine.take(socket, frame))
        self.put(inputs.LinkOpened(dial=dial))

    def _frame(self, dial: int, boot: int, frame: dict[str, Any]) -> None:
        if boot == self.boots:
            self.put(inputs.FrameArrived(dial=dial, frame=frame))

    def _engine_closed(self, socket: Socket, detail: str) -> None:
        """The engine closed the socket: what it wrote before has arrived or is lost."""
        if socket is self._socket:
            self._socket, self._to_engine = None, None
            self._timeline.after(0.001, self._closed, socket.dial, self.boots, detail)

    def _closed(self, dial: int, boot: int, detail: str) -> None:
        if boot == self.boots:
            self.put(inputs.LinkClosed(dial=dial, code=1006, detail=detail))

    def _close_link(self, dial: int, detail: str) -> None:
        socket, pipe = self._socket, self._to_engine
        if dial != self._dial or socket is None or pipe is None:
            return
        self._socket, self._to_engine = None, None
        pipe.close(lambda: self._engine.lost(socket))
        if socket.to_node is not None:
            socket.to_node.cut()
        self._timeline.after(0.001, self._closed, dial, self.boots, detail)

    def _leave_engine(self) -> None:
        """The socket goes; what was written may still arrive, or not."""
        socket, pipe = self._socket, self._to_engine
        self._socket, self._to_engine = None, None
        if socket is None or pipe is None:
            return
        if socket.to_node is not None:
            socket.to_node.cut()
        if self._random.random() < 0.5:
            pipe.cut()
            self._engine.lost(socket)
        else:
            pipe.close(lambda: self._engine.lost(socket))

    def half_open(self, seconds: float) -> None:
        """No byte gets through for a while, and nobody says so."""
        socket, pipe = self._socket, self._to_engine
        if socket is None or pipe is None or socket.to_node is None:
            return
        pipe.stall(seconds)
        socket.to_node.stall(seconds)
        if seconds > IDLE_LINK_S:
            self._timeline.after(IDLE_LINK_S, self._idle, socket)

    def _idle(self, socket: Socket) -> None:
        if socket is self._socket:
            self._close_link(socket.dial, "idle")

    def _call(self, call: HttpCall) -> None:
        latency = self._random.uniform(*self._engine.traits.latency_s)
        self._timeline.after(latency, self._called, call, self.boots)

    def _called(self, call: HttpCall, boot: int) -> None:
        answer = self._engine.call(call)
        if answer is None:
            item: Input = inputs.EngineUnanswered(call_id=call.call_id, detail="timeout")
            delay = self._random.uniform(0.01, call.timeout_s)
        else:
            status, data, code = answer
            if call.capture == "node" and status == 201:
                self.token_serial = self._engine.token_serial
            item = inputs.EngineAnswered(call_id=call.call_id, status=status, data=data, code=code)
            delay = self._random.uniform(*self._engine.traits.latency_s)
        self._timeline.after(delay, self._answered, item, boot)

    def _answered(self, item: Input, boot: int) -> None:
        if boot == self.boots:
            self.put(item)

    # --- the PTY host -----------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        if not self._attaching:
            self._attaching = True
            self._timeline.after(self._random.uniform(0.001, 0.05), self._attached, self.boots)

    def _attached(self, boot: int) -> None:
        if self.core is None or boot != self.boots:
            return
        self._attaching = False
        self._leave_host()
        latency = self._host.traits.latency_s
        connection = Connection(
            Pipe(self._timeline, self._random, latency, lambda item: self._reported(connection, item))
        )
        self._connection = connection
        self._to_host = Pipe(
            self._timeline, self._random, latency, lambda request: self._requested(connection, request)
        )
        self._host.attach(connection)

    def _reported(self, connection: Connection, item: Input) -> None:
        if connection is self._connection:
            self.put(item)

    def _requested(self, connection: Connection, request: Any) -> None:
        if connection is self._host.connection:
            self._host.take(request)

    def _host_lost(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connection, self._to_host = None, None
            self.put(inputs.HostLost(detail="eof"))

    def cut_host(self) -> None:
        """The connection to the host breaks; both live on."""
        connection = self._connection
        if connection is not None:
            self._leave_host()
            self.put(inputs.HostLost(detail="cut"))

    def _leave_host(self) -> None:
        connection, pipe = self._connection, self._to_host
        self._connection, self._to_host = None, None
        if connection is None or pipe is None:
            return
        connection.to_broker.cut()
        if self._random.random() < 0.5:
            pipe.cut()
            self._host.detached(connection)
        else:
            pipe.close(lambda: self._host.detached(connection))

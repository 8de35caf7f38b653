"""One simulated world: everything wired together under one seed, step by step, with the promises checked on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from relaybroker.domain import effects, inputs, replies
from relaybroker.domain.broker import Broker
from relaybroker.domain.inputs import Settings
from relaybroker.domain.state import State
from relaybroker.domain.worker import READY_AFTER_S
from relaybroker.testing.simulation import engine as engines
from relaybroker.testing.simulation import host as hosts
from relaybroker.testing.simulation.checks import Promises, check_bounds, check_fold
from relaybroker.testing.simulation.disk import Disk
from relaybroker.testing.simulation.engine import NODE_ID, OWN, Engine
from relaybroker.testing.simulation.host import Host, Session
from relaybroker.testing.simulation.marks import Marks
from relaybroker.testing.simulation.node import Node, plain_harness
from relaybroker.testing.simulation.timeline import Timeline

POLICIES = ("ask", "at_least_once", "at_most_once")


@dataclass(frozen=True)
class Plan:
    """What kind of world a seed makes."""

    seed: int
    names: tuple[str, ...] = ("ann", "bob", "cleo")
    policy: str = "ask"
    engine: engines.Traits = field(default_factory=engines.Traits)
    host: hosts.Traits = field(default_factory=hosts.Traits)
    fsync_s: tuple[float, float] = (0.0005, 0.01)
    moves: int = 400
    lasts_s: float = math.inf
    """No more moves after this time."""
    begins_with_all: bool = False
    """Every agent is started at the beginning."""
    pause_s: float = 1.0
    """Mean time between two moves."""
    weights: dict[str, float] = field(default_factory=dict)
    """Move -> how likely it is, beside its own weight; 0 = never here."""
    fold_every: int = 100
    """Moves between two checks that the fold is the live state."""
    local_first: bool = True
    """Agents here go on talking while the engine cannot be reached."""
    keeps_all: bool = True
    snapshot_every: int = 700
    has_doors: bool = False
    """Some programs have doors of their own."""


DOORS_EVERY = 7
"""One plan of so many has doors: the others stay what they were before there were any, with what they once found."""


def plan_of(seed: int) -> Plan:
    """The plan that a seed stands for. Each one has only some of the faults, so that none hides another; many are short."""
    random = Random(f"plan {seed}")  # noqa: S311 - reproducible on purpose

    def sometimes(value: float) -> float:
        return value if random.random() < 0.4 else 0.0

    fast = (0.001, 0.05)
    plan = Plan(
        seed=seed,
        names=("ann", "bob", "cleo", "dirk")[: random.randint(1, 4)],
        policy=POLICIES[seed % 3],
        engine=engines.Traits(
            knows_cursor=random.random() < 0.5,
            replays_node=random.random() < 0.5,
            push_s=random.choice((fast, (0.001, 0.4), (0.001, 3.0))),
            push_lost=sometimes(0.1),
            reply_lost=sometimes(0.02),
            call_failed=sometimes(0.2),
            slow_register=sometimes(0.4),
            refuse_register=sometimes(0.1),
            reject_token=sometimes(0.1),
            latency_s=random.choice(((0.0005, 0.01), (0.05, 0.3))),
            shares_clock=seed % 2 == 0,
        ),
        host=hosts.Traits(
            boot_s=random.choice(((0.05, 0.5), (0.5, 8.0))),
            not_started=sometimes(0.1),
            type_s=random.choice(((0.001, 0.02), (0.05, 0.6))),
            write_failed=sometimes(0.2),
            half_typed=sometimes(0.03),
            late_proof=sometimes(0.05),
        ),
        local_first=seed % 5 != 4,
        fsync_s=random.choice(((0.0005, 0.01), (0.01, 0.3))),
        moves=random.choice((50, 50, 100, 100, 200, 400)),
        pause_s=random.choice((0.2, 1.0, 3.0)),
        weights=_Swarm(random),
        snapshot_every=random.choice((150, 700, 700, 1_000_000)),
    )
    return _with_doors(plan) if seed % DOORS_EVERY == DOORS_EVERY - 1 else plan


def _with_doors(plan: Plan) -> Plan:
    """The same, and some of its programs have doors of their own."""
    random = Random(f"doors {plan.seed}")  # noqa: S311 - reproducible on purpose

    def sometimes(value: float) -> float:
        return value if random.random() < 0.5 else 0.0

    host = replace(
        plan.host,
        door_opens=random.choice((1.0, 0.8)),
        door_fails=sometimes(0.05),
        door_loses=sometimes(0.15),
        door_unseen=sometimes(0.15),
        door_late=sometimes(0.15),
        door_repeats=sometimes(0.1),
        records_lost=sometimes(0.3),
        look_up_lost=sometimes(0.3),
    )
    return replace(plan, host=host, has_doors=True)


def day_of(seed: int) -> Plan:
    """A day of an ordinary node with 50 agents: all kinds of faults, none of them all the time."""
    often = {"spawn": 4.0, "engine_spawns": 4.0, "post": 2.0, "dialog": 3.0}
    seldom = dict.fromkeys(
        ("host_dies", "broker_and_host_die", "new_identity", "release", "engine_releases", "clean_stop"), 0.1
    )
    never = dict.fromkeys(("quiet", "long_quiet"), 0.0)
    return Plan(
        seed=seed,
        names=tuple(f"agent-{number:02}" for number in range(50)),
        policy="at_least_once",
        engine=engines.Traits(
            push_s=(0.001, 0.4), push_lost=0.01, call_failed=0.05, slow_register=0.05, reject_token=0.02
        ),
        host=hosts.Traits(not_started=0.02, write_failed=0.01, half_typed=0.002, late_proof=0.005),
        moves=1_000_000,
        lasts_s=86_400.0,
        begins_with_all=True,
        pause_s=1.0,
        weights=Ordinary(often | seldom | never),
        fold_every=500,
        keeps_all=False,
        snapshot_every=5_000,
    )


_BREAKS_OFF, _NEVER_HEARD_OF = 0.2, 0.35
"""Of the answers to fetches: the share that breaks off, and with it that of which the broker hears nothing."""


class Ordinary(dict[str, float]):
    """A move that is not named is as frequent as usual."""

    def __missing__(self, move: str) -> float:
        return 1.0


class _Swarm(dict[str, float]):
    """Draws once for each move whether it is frequent, ordinary or absent in this world."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._seed = random.random()

    def __missing__(self, move: str) -> float:
        drawn = Random(f"{self._seed} {move}").choice((0.0, 1.0, 1.0, 4.0))  # noqa: S311 - reproducible on purpose
        self[move] = drawn
        return drawn


class World:
    """Everything there is.

    `make` builds the core: other cores prove that the checks have teeth. `promises` watches; one that notes more may be given.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        make: Callable[[State], Broker] = lambda state: Broker(plain_harness, state),
        promises: Promises | None = None,
        trace: Callable[[str], None] | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        self.plan = plan
        self.random = Random(plan.seed)  # noqa: S311 - reproducible on purpose
        self.promises = promises or Promises(Marks())
        self.marks = self.promises.marks
        self.timeline = timeline or Timeline()
        self.trace = trace
        self.disk = Disk(self.timeline, self._fsync_s, snapshot_every=plan.snapshot_every, keeps_all=plan.keeps_all)
        self.slow_disk_until = 0.0
        self.engine = Engine(self.timeline, self._stream("engine"), plan.engine, self.promises)
        self.promises.engine_forgot = self.engine.has_forgotten
        self.host = Host(self.timeline, self._stream("host"), plan.host, self.promises)
        self.node = Node(
            self.timeline,
            self._stream("node"),
            disk=self.disk,
            engine=self.engine,
            host=self.host,
            watcher=self.promises,
            settings=Settings(
                node_id=NODE_ID,
                node_name="vm-01234567",
                workspace_id="ws_1",
                base_url="http://127.0.0.1:1",
                version="relaybroker/simulated",
                broker_name="desk",
                in_doubt=plan.policy,
                capabilities=("spawn:cat",),
                checks_places=True,
                reenrols=True,
                local_first=plan.local_first,
                ready_after_s=READY_AFTER_S,
            ),
            make=make,
        )
        self.engine.people[self.node.settings.broker_name] = OWN
        self.node.replied = self._replied
        self._fetching: dict[str, str] = {}
        """Requests of agents that fetch -> agent id."""
        self._heard: dict[str, str] = {}
        """Requests of callers who hear every answer -> agent id."""
        self._agents_random = self._stream("agents")
        self.requests = 0
        self._disk_random = self._stream("disk")

    def _stream(self, label: str) -> Random:
        """Randomness of its own for each part: what one draws moves nothing in another."""
        return Random(f"{self.plan.seed} {label}")  # noqa: S311 - reproducible on purpose

    def _fsync_s(self) -> float:
        slow = 2.0 if self.timeline.now < self.slow_disk_until else 0.0
        return self._disk_random.uniform(*self.plan.fsync_s) + self._disk_random.uniform(0.0, slow)

    # --- agents that fetch ----------------------------------------------------------------------------------------------

    def fetch(self, agent_id: str, limit: int) -> None:
        """An agent asks for what waits for it."""
        request_id = self.request_id()
        self._fetching[request_id] = agent_id
        self.node.put(inputs.FetchRequested(request_id=request_id, agent_id=agent_id, limit=limit))

    def asked_to_fetch(self, request_id: str, agent_id: str, limit: int) -> inputs.FetchRequested:
        """The same, for a caller who hears the answer, and says that it came."""
        self._heard[request_id] = agent_id
        return inputs.FetchRequested(request_id=request_id, agent_id=agent_id, limit=limit)

    def _replied(self, reply: effects.Reply) -> None:
        if (listener := self._heard.pop(reply.request_id, "")) and isinstance(reply.answer, replies.Fetched):
            self.promises.given(listener, reply.answer)
        agent_id, answer = self._fetching.pop(reply.request_id, ""), reply.answer
        if not agent_id or not isinstance(answer, replies.Fetched) or not answer.fetch_id:
            return
        fetch_id, fate = answer.fetch_id, self._agents_random.random()
        if fate < _BREAKS_OFF:
            self.marks.reach("an answer to a fetch broke off")
            self._end_fetch(agent_id, fetch_id, answered=False)
            return
        self.promises.given(agent_id, answer)
        if fate < _NEVER_HEARD_OF:
            self.marks.reach("nobody said that a fetch was answered")
            return
        delay = self._agents_random.uniform(0.001, 0.2)
        self.timeline.after(delay, lambda: self._end_fetch(agent_id, fetch_id, answered=True))

    def _end_fetch(self, agent_id: str, fetch_id: str, *, answered: bool) -> None:
        self.node.put(inputs.FetchEnded(agent_id=agent_id, fetch_id=fetch_id, answered=answered))

    # --- questions --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State | None:
        """The live state, while a process runs."""
        return self.node.core.state if self.node.core is not None else None

    def sessions(self, *states: str) -> list[Session]:
        """Programs in one of these states, oldest first."""
        return [session for session in self.host.sessions.values() if session.state in states]

    def request_id(self) -> str:
        """An id for a local request."""
        self.requests += 1
        return f"req{self.requests}"

    def check(self) -> None:
        """What must hold at any moment and is too dear to ask after every step."""
        state = self.state
        if state is None:
            return
        check_bounds(state)
        use_snapshot = self.random.random() < 0.8
        check_fold(self.disk.recover(use_snapshot=use_snapshot, extra=self.disk.unwritten), state)

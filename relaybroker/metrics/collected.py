"""The numbers of a broker: what the state is at the moment of the question, and what was counted and measured since its start.

Totals that the log keeps (`relay_deliveries_total`, `relay_broker_agents_spawned_total`, `relay_broker_crashes_total`) go on over restarts;
what is counted here begins at 0 with the process, as Prometheus expects of a counter.

Source: spec/local-api.md section 7.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from relaybroker.domain import (
    action as action_machine,
)
from relaybroker.domain import (
    dead_letter,
    delivery,
    events,
)
from relaybroker.domain import (
    link as link_machine,
)
from relaybroker.domain import (
    message as message_machine,
)

if TYPE_CHECKING:
    from relaybroker.domain.entities import Delivery
    from relaybroker.domain.events import Recorded
    from relaybroker.domain.state import State

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
"""Bounds of the buckets of what takes a delivery; a message may wait for a person for days."""
COMMIT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_TOTALS = ("offered", "typed", "acked", "dropped", "dead_lettered")


class Depths(NamedTuple):
    """How full the queues outside the core are, by name: what waits, and what may wait at most."""

    queues: dict[str, tuple[int, int]]
    log_locked_s: float
    files: dict[str, Path]
    """Parts of the log -> their files; a directory counts with what is in it."""


class Metrics:
    """Everything that is told; belongs to the loop.

    Args:
        state: gives the core's state, to look at only.
        depths: gives what is waiting outside the core.
        version: of the broker.
        clock: epoch seconds.
    """

    def __init__(
        self, state: Callable[[], State], depths: Callable[[], Depths], *, version: str, clock: Callable[[], float]
    ) -> None:
        self._state, self._depths, self._version, self._clock = state, depths, version, clock
        self._registry = CollectorRegistry(auto_describe=False)
        kept = self._registry
        self._to_typed = Histogram(
            "relay_delivery_offer_to_typed_seconds",
            "From the engine's offer to the proof that the text was typed.",
            buckets=LATENCY_S,
            registry=kept,
        )
        self._to_acked = Histogram(
            "relay_delivery_typed_to_ack_seconds",
            "From the proof that the text was typed to the acknowledgement that covers it.",
            buckets=LATENCY_S,
            registry=kept,
        )
        self._commit = Histogram(
            "relay_journal_commit_seconds", "From a decision to its record on disk.", buckets=COMMIT_S, registry=kept
        )
        self._reasons = Counter(
            "relay_delivery_reasons",
            "Deliveries that were held, dropped or became dead letters.",
            ("event", "reason"),
            registry=kept,
        )
        self._link_ends = Counter(
            "relay_link_ends", "Connections to the engine that ended or failed.", ("reason",), registry=kept
        )
        self._exits = Counter("relay_agent_crashes", "Agents' programs that crashed.", ("agent",), registry=kept)
        self._registry.register(_OfState(self))
        going_on = [open_delivery for open_delivery in state().deliveries.values() if not open_delivery.ended]
        self._offered = {open_delivery.stream: open_delivery.offered_at for open_delivery in going_on}
        self._typed = {
            open_delivery.stream: open_delivery.changed_at
            for open_delivery in going_on
            if open_delivery.state == delivery.DeliveryState.INJECTED
        }
        self._names = {program.stream: program.name for program in state().workers.values()}
        self._stopping: set[str] = set()

    def committed(self, seconds: float) -> None:
        """A batch is durable, so long after it was decided."""
        self._commit.observe(seconds)

    def observe(self, recorded: Iterable[Recorded]) -> None:
        """Take note of events that are durable."""
        for one in recorded:
            self._note(one)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything in a format that the asker takes, and which that is."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _note(self, one: Recorded) -> None:
        match one.event:
            case events.DeliveryOffered():
                self._offered[one.stream] = one.at
            case events.DeliveryInjected():
                if (since := self._offered.get(one.stream)) is not None:
                    self._to_typed.observe(max(0.0, one.at - since))
                self._typed[one.stream] = one.at
            case events.DeliveryAcked():
                if (since := self._typed.get(one.stream)) is not None:
                    self._to_acked.observe(max(0.0, one.at - since))
                self._forget(one.stream)
            case events.DeliveryHeld(reason=reason):
                self._reasons.labels("held", str(reason)).inc()
            case events.DeliveryDropped(reason=reason):
                self._reasons.labels("dropped", str(reason)).inc()
                self._forget(one.stream)
            case events.DeliveryDeadLettered(reason=reason):
                self._reasons.labels("dead_lettered", str(reason)).inc()
                self._forget(one.stream)
            case events.LinkBackedOff(reason=reason) | events.LinkRefused(reason=reason):
                self._link_ends.labels(str(reason)).inc()
            case events.WorkerLaunched(name=name):
                self._names[one.stream] = name
            case events.WorkerStopping():
                self._stopping.add(one.stream)
            case events.WorkerExited(code=code, signal=signal):
                self._ended(one.stream, crashed=bool(code or signal))
            case events.WorkerLost():
                self._ended(one.stream, crashed=True)
            case _:
                pass

    def _forget(self, stream: str) -> None:
        self._offered.pop(stream, None)
        self._typed.pop(stream, None)

    def _ended(self, stream: str, *, crashed: bool) -> None:
        name = self._names.pop(stream, "")
        if crashed and name and stream not in self._stopping:
            self._exits.labels(name).inc()
        self._stopping.discard(stream)

    def of_state(self) -> Iterator[Metric]:
        """What the state is now."""
        state, now = self._state(), self._clock()
        yield from _of_broker(state, now, self._version)
        yield from _of_deliveries(state, now)
        yield from _of_agents(state)
        yield from _of_queues(state, self._depths())


class _OfState(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.of_state()

    def describe(self) -> Iterable[Metric]:
        return ()


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _of_broker(state: State, now: float, version: str) -> Iterator[Metric]:
    settings, counted = state.settings, state.counters
    running = sum(not program.ended for program in state.workers.values())
    node = (
        {}
        if settings is None
        else {"node": state.node_name, "node_id": settings.node_id, "broker": settings.broker_name}
    )
    yield InfoMetricFamily("relay_broker", "Identify the broker.", value={"version": version} | node)
    yield _gauge("relay_broker_uptime_seconds", "Since its start.", int(max(0.0, now - state.started_at)))
    yield CounterMetricFamily("relay_broker_agents_spawned", "Agents that were started.", value=counted.spawned)
    yield CounterMetricFamily("relay_broker_crashes", "Programs that crashed.", value=counted.crashed)
    yield CounterMetricFamily("relay_broker_restarts", "Programs that were restarted.", value=counted.restarted)
    yield _gauge("relay_broker_active_agents", "Programs that run.", running)
    yield _gauge("relay_host_attached", "1 while the PTY host answers.", float(state.host.attached))
    link = GaugeMetricFamily(
        "relay_link_state", "1 for the current state of the link to the engine.", labels=("state",)
    )
    for name in link_machine.TABLE.states:
        link.add_metric((str(name),), float(state.link.state == name))
    yield link
    heard = now - state.link.heard_at if state.link.heard_at else float("nan")
    yield _gauge("relay_link_heard_age_seconds", "Since the engine was last heard.", heard)
    yield CounterMetricFamily("relay_frames_rejected", "Unusable frames.", value=state.counters.frames_rejected)


def _of_deliveries(state: State, now: float) -> Iterator[Metric]:
    totals = CounterMetricFamily("relay_deliveries", "Deliveries over the life of the log.", labels=("outcome",))
    for name in _TOTALS:
        totals.add_metric((name,), getattr(state.counters, name))
    yield totals
    by_state = GaugeMetricFamily("relay_deliveries_open", "Unsettled deliveries, by state.", labels=("state",))
    pending = [open_delivery for open_delivery in state.deliveries.values() if not open_delivery.ended]
    for name in delivery.TABLE.states:
        if name not in delivery.TABLE.terminal:
            by_state.add_metric((str(name),), sum(open_delivery.state == name for open_delivery in pending))
    yield by_state
    waiting = [open_delivery.offered_at for open_delivery in pending if _waits(open_delivery)]
    oldest = now - min(waiting) if waiting else 0.0
    yield _gauge(
        "relay_delivery_oldest_waiting_seconds", "How long the oldest untyped message has been waiting.", oldest
    )
    yield _gauge("relay_dead_letters", "Dead letters waiting for a person.", len(state.dead_letters))


def _waits(open_delivery: Delivery) -> bool:
    return delivery.PLACES[delivery.DeliveryState(open_delivery.state)] in (
        delivery.Place.UNDECIDED,
        delivery.Place.WAITING,
    )


def _of_agents(state: State) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("relay_agent_waiting", "Messages waiting for an agent.", labels=("agent",))
    typed = CounterMetricFamily("relay_agent_typed", "Messages typed to the program of an agent.", labels=("agent",))
    memory = GaugeMetricFamily("relay_agent_memory_bytes", "Memory of the program of an agent.", labels=("agent",))
    for program in (one for one in state.workers.values() if one.pid and not one.ended):
        waiting.add_metric((program.name,), len(program.waiting))
        typed.add_metric((program.name,), program.typed)
        memory.add_metric((program.name,), _memory(program.pid))
    yield from (waiting, typed, memory)
    yield _gauge("relay_agent_waiting_limit", "Maximum number of messages waiting for one agent.", delivery.MAX_WAITING)


def _of_queues(state: State, depths: Depths) -> Iterator[Metric]:
    inside = {
        "messages": (len(state.messages), message_machine.MAX_OPEN),
        "invocations": (len(state.open_actions()), action_machine.MAX_OPEN),
        "dead_letters": (len(state.dead_letters), dead_letter.LIMIT),
    }
    depth = GaugeMetricFamily("relay_queue_depth", "Entries waiting in a queue.", labels=("queue",))
    limit = GaugeMetricFamily("relay_queue_limit", "Maximum number of entries in a queue.", labels=("queue",))
    for name, (many, most) in {**depths.queues, **inside}.items():
        depth.add_metric((name,), many)
        limit.add_metric((name,), most)
    yield from (depth, limit)
    size = GaugeMetricFamily("relay_journal_bytes", "Size of a part of the log on disk.", labels=("part",))
    for name, path in depths.files.items():
        size.add_metric((name,), _size(path))
    yield size
    free = GaugeMetricFamily("relay_journal_disk_free_bytes", "Free space on the log's disk.")
    if depths.files:
        place = next(iter(depths.files.values())).parent
        free.add_metric((), psutil.disk_usage(str(place)).free)
    yield free
    yield _gauge("relay_journal_position", "Events in the log.", state.position)
    yield _gauge("relay_log_locked_seconds", "How long another program has held the log locked.", depths.log_locked_s)


def _size(path: Path) -> int:
    try:
        return sum(one.stat().st_size for one in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def _memory(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def names(metrics: Sequence[Metric]) -> set[str]:
    """The names of these families as queries write them."""
    ending = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}
    return {f"{metric.name}{end}" for metric in metrics for end in ending.get(metric.type, ("",))}

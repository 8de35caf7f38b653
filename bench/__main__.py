"""A comparison of relaybroker with the reference broker's published binaries, in one run on one machine.

Method. A scripted engine sends `deliver` frames over a WebSocket on the loopback and notes when it sent each and when an acknowledgement
covered it. Every agent is the same small program in a raw-mode terminal that shows what it is typed; it notes when a message's text, and
then Enter, were on its standard input. All times are CLOCK_MONOTONIC of this machine. The brokers take turns; every measurement starts a
broker afresh in an empty directory, spawns the agents through its local API, and waits until each has had a first message. Nothing else is
configured, except that 12.4.1 is told not to pace what it types (RELAY_INJECT_RATE_MS=0). CPU is user + system time, and memory is
resident (shared pages counted for each process) and private, of the broker with its helper processes, agents left out. Engine and agents
use the same cores as the broker. relaybroker writes every delivery to its log (SQLite) before it is typed, and syncs it before it is
acknowledged. A burst ends when all is typed and acknowledged, when nothing moved for 10 s (hang), or after 30 s (slow). In the crash
measurement the broker alone is killed with kill -9 and started again; agents that did not survive are spawned again by name, and what was
not acknowledged is offered again. Tools of agents: fifty of them, each with an open connection to the broker's MCP endpoint; its embedded
engine is another process; calls by the CPU time of the broker process alone, its private memory with one connection and with fifty;
`relaybroker mcp` from its start to its first answer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from bench import brokers, measures, questions, recovery, table, targets, tools
from bench.measures import Figures, Plan
from bench.reference import NotFetchedError
from bench.session import NotReadyError

RESULT = Path(__file__).parent / "results" / "figures.json"
MEDIANS = ("start_s", "spawn_runs_s", "spawn_answered_s")
"""Measured with every fresh broker."""
Measure = Callable[[str, Plan], Coroutine[Any, Any, Figures]]
MEASURES: dict[str, Measure] = {
    "latency": measures.latency,
    **{
        f"burst_{agents}x{each}": lambda name, plan, agents=agents, each=each: measures.burst(name, plan, agents, each)  # type: ignore[misc]
        for agents, each in measures.BURSTS
    },
    "crash": measures.crash,
    "recovery": recovery.recovery,
    "questions": questions.questions,
    "tools": tools.tools,
}


def compare(names: list[str], plan: Plan) -> dict[str, Figures]:
    """Figures of each broker that can be had; a measurement that one cannot do is told and left out."""
    by_broker: dict[str, Figures] = {}
    for name in names:
        figures: Figures = {}
        samples: dict[str, list[float]] = {key: [] for key in MEDIANS}
        try:
            for what, measure in MEASURES.items():
                print(f"{time.strftime('%H:%M:%S')} {name}: {what}", file=sys.stderr, flush=True)
                one = _measured(measure, name, plan, what)
                for key in MEDIANS:
                    samples[key] += [value for value in [one.pop(key, None)] if isinstance(value, float)]
                figures |= one
        except NotFetchedError as error:
            print(f"*** {name} IS LEFT OUT, THERE IS NO COMPARISON WITH IT: {error} ***", file=sys.stderr, flush=True)
            continue
        by_broker[name] = figures | {key: statistics.median(values) for key, values in samples.items() if values}
    return by_broker


def _measured(measure: Measure, name: str, plan: Plan, what: str) -> Figures:
    try:
        return uvloop.run(measure(name, plan))
    except NotReadyError as error:
        print(f"*** {name}: {what} failed: {error} ***", file=sys.stderr, flush=True)
        return {f"{what}_state": f"failed: {error}"}


def main() -> int:
    """Measure, print, write JSON; 1 when relaybroker was measured and misses a target."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Compare brokers; see the top of the output.")
    parser.add_argument("--only", action="append", choices=brokers.NAMES, help="this broker alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="10 messages for latencies, less patience: for developers")
    parser.add_argument("--out", type=Path, default=RESULT, help=f"where the JSON goes (default {RESULT})")
    options = parser.parse_args()
    began = time.monotonic()
    by_broker = compare(options.only or list(brokers.NAMES), measures.QUICK if options.quick else measures.FULL)
    machine: dict[str, Any] = {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    machine |= {
        "at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "load": os.getloadavg()[0],
        "seconds": round(time.monotonic() - began),
    }
    judged = targets.judge(by_broker[brokers.OURS]) if brokers.OURS in by_broker else []
    print(__doc__, json.dumps(machine), "", table.table(by_broker), sep="\n")
    if judged:
        print(f"\n{table.verdicts(judged)}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine, "method": __doc__, "brokers": by_broker, "targets": [one._asdict() for one in judged]}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {options.out}")
    return 0 if all(one.met for one in judged) else 1


if __name__ == "__main__":
    sys.exit(main())

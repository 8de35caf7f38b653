"""Run seeds and say what they showed: `python -m relaybroker.testing.simulation 300`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from relaybroker.testing.simulation.marks import REQUIRED
from relaybroker.testing.simulation.run import Outcome, run
from relaybroker.testing.simulation.world import day_of


def seeds_of(text: str) -> list[int]:
    """`300` = the first 300 seeds; `7,12` or `7,` = these; `100-200` = that range."""
    if "," in text:
        return [int(part) for part in text.split(",") if part.strip()]
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else list(range(int(first)))


def run_day(seed: int) -> Outcome:
    """24 hours with 50 agents."""
    return run(seed, plan=day_of(seed))


def main(arguments: list[str]) -> int:
    """Run; 0 = no promise was broken and (in a batch) every branch was reached."""
    parser = argparse.ArgumentParser(prog="python -m relaybroker.testing.simulation", description=__doc__)
    parser.add_argument("seeds", help=seeds_of.__doc__)
    parser.add_argument("--trace", action="store_true", help="say everything that happens; for one seed")
    parser.add_argument("--day", action="store_true", help="24 simulated hours with 50 agents for each seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--stop", action="store_true", help="stop at the first broken promise")
    given = parser.parse_args(arguments)
    seeds = seeds_of(given.seeds)
    if given.trace:
        for seed in seeds:
            run(seed, plan=day_of(seed) if given.day else None, trace=print)
        return 0
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for outcome in pool.map(run_day if given.day else run, seeds, chunksize=1 if given.day else 4):
            outcomes.append(outcome)
            if outcome.violation:
                print(failure(outcome, day=given.day), flush=True)  # noqa: T201 - this is a command
                if given.stop:
                    pool.shutdown(cancel_futures=True)
                    return 1
    return _summary(outcomes, time.monotonic() - began, whole=len(seeds) >= 100)


def failure(outcome: Outcome, *, day: bool = False) -> str:
    """What went wrong, and the command that shows it again."""
    target, option = ("day", " --day") if day else ("simulate", "")
    return (
        f"seed {outcome.seed}: {outcome.violation[:600]}\n"
        f"    again: make {target} SEEDS={outcome.seed},    with a trace: "
        f"python -m relaybroker.testing.simulation {outcome.seed}, --trace{option}"
    )


def missed(outcomes: list[Outcome]) -> list[str]:
    """Rare branches that no seed has reached."""
    reached: Counter[str] = sum((outcome.marks for outcome in outcomes), Counter())
    return [mark for mark in REQUIRED if not reached[mark]]


def _summary(outcomes: list[Outcome], seconds: float, *, whole: bool) -> int:
    broken = [outcome.seed for outcome in outcomes if outcome.violation]
    reached: Counter[str] = sum((outcome.marks for outcome in outcomes), Counter())
    for mark, count in sorted(reached.items(), key=lambda pair: pair[1]):
        print(f"{count:8}  {mark}")  # noqa: T201 - this is a command
    unreached = missed(outcomes) if whole else []
    for mark in unreached:
        print(f"NEVER     {mark}")  # noqa: T201 - this is a command
    events = sum(outcome.events for outcome in outcomes)
    hours = sum(outcome.simulated_s for outcome in outcomes) / 3600
    print(  # noqa: T201 - this is a command
        f"{len(outcomes)} seeds, {events} events, {hours:.0f} simulated hours in {seconds:.1f} s; broken: {broken or 'none'}"
    )
    return 1 if broken or unreached else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

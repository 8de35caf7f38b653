"""`make mutate`: change the core in small ways, one at a time, and see whether a test notices (mutmut).

    python -m tests.mutation                 the modules of `HELD`, whole, and MUTATE more of the rest, chosen by MUTATE_SEED
    python -m tests.mutation mailbox.py      these modules of domain/, whole

A change that no test notices is a survivor: a promise that nothing holds, or a change that cannot be seen. Of the modules in `HELD` every
survivor is listed in tests/survivors.txt. The list may only shrink: a survivor that is not in it fails the run, and so does a line that is
no survivor any more. Of all other modules the run says how many survived, and which (build/mutation/survivors.txt).

The work is done in build/mutation, on a copy of what git knows. MUTATE_S ends it: what was not tried until then says nothing.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
COPY = ROOT / "build" / "mutation"
KNOWN = ROOT / "tests" / "survivors.txt"
CORE = "relaybroker/domain/"
NEAR = "tests/unit/domain/"
HELD = {
    "mailbox.py": (
        "test_mailbox.py", "test_local_first.py", "test_strangers.py", "test_returned_messages.py", "test_message_order.py",
        "test_reads.py", "test_soundness.py", "test_mailbox_edges.py",
    ),
}  # fmt: skip
"""Module of domain/ -> the tests beside it that hold it; they are quick, so that all of it is tried every night."""
TOO_SLOW = "test_state_is_bounded.py"
"""Takes longer than all others together, and would be asked about nearly every change."""
WORKERS = 2
KILLED, SURVIVED, UNTESTED = (1, 3, 24, -24, 152), 0, 33
"""Exit codes as mutmut stores them; whoever is out of CPU time (24) goes round in a circle, which its tests notice. Others say nothing."""
PATIENCE = 4
"""So many times the CPU time of its tests, twice, may a change take."""


@dataclass
class Outcome:
    """What became of the changes that were tried; a survivor is described by where it is and what it changes."""

    killed: int = 0
    survivors: list[str] = field(default_factory=list)
    undecided: int = 0

    @property
    def tried(self) -> int:
        """Changes that a test noticed or not."""
        return self.killed + len(self.survivors)


def main(arguments: list[str]) -> int:
    """The exit status: 0 if every survivor of a held module is known, and every known one is still there."""
    end = time.monotonic() + float(os.environ.get("MUTATE_S", "3600"))
    seed = int(os.environ.get("MUTATE_SEED") or time.time())
    count = 0 if arguments else int(os.environ.get("MUTATE", "200"))
    sys.stdout.write(f"MUTATE_SEED={seed}\n")
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    problems: list[str] = []
    for module in arguments or HELD:
        outcome = run([module], HELD.get(module, ()), None, end)
        sys.stdout.write(f"{module}: {told(outcome)}\n")
        if module in HELD:
            problems += compared(module, known(module, KNOWN.read_text()), outcome)
        else:
            problems += outcome.survivors
    if count:
        chosen = sample(seed, count)
        outcome = run(sorted({module for module, _ in chosen}), (), [name for _, name in chosen], end)
        sys.stdout.write(f"{count} of the rest: {told(outcome)}\n")
        (ROOT / "build" / "mutation" / "survivors.txt").write_text("\n".join(sorted(outcome.survivors)) + "\n")
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


def told(outcome: Outcome) -> str:
    """The figures of a run."""
    return f"{outcome.tried} tried, {len(outcome.survivors)} survived, {outcome.undecided} undecided"


def known(module: str, text: str) -> list[str]:
    """The survivors of a module that the list has."""
    return [line for line in text.splitlines() if line.startswith(f"{module.removesuffix('.py')}.")]


def compared(module: str, listed: list[str], outcome: Outcome) -> list[str]:
    """What is wrong with the list after a run of the whole module. A change that was not decided is no reason to strike its line."""
    new = [f"no test notices: {line}" for line in sorted(set(outcome.survivors) - set(listed))]
    gone = sorted(set(listed) - set(outcome.survivors)) if not outcome.undecided else []
    return new + [f"strike from tests/survivors.txt, a test notices it now: {line}" for line in gone]


def modules() -> list[str]:
    """The modules of the core, as paths in it."""
    return sorted(str(path.relative_to(ROOT / "domain")) for path in (ROOT / "domain").rglob("*.py"))


def sample(seed: int, count: int) -> list[tuple[str, str]]:
    """So many changes of the modules that are not held, each with its module."""
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    (COPY / "pyproject.toml").write_text(_settings([], []))
    with contextlib.chdir(COPY):  # from where mutmut reads its settings
        names = [
            (module, get_mutant_name(Path(CORE + module), name))
            for module in modules()
            if module not in HELD
            for name in mutate_file_contents(module, (ROOT / "domain" / module).read_text()).mutant_names
        ]
    sys.stdout.write(f"{len(names)} changes of {len({module for module, _ in names})} modules\n")
    return random.Random(seed).sample(names, min(count, len(names)))


def run(paths: list[str], tests: Iterable[str], names: list[str] | None, end: float) -> Outcome:
    """Try the changes of these names, or all of these modules, with these tests beside the core, or all of them."""
    place = COPY / "tree"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["xargs", "-0", "cp", "-P", "--parents", "-t", str(place)], cwd=ROOT, check=True, input=listed)
    with (place / "pyproject.toml").open("a") as settings:
        settings.write(_settings(paths, [NEAR + name for name in tests]))
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(WORKERS), *(names or [])]
    with (COPY / "mutmut.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            process.wait(max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
    if process.returncode and not list(place.glob("mutants/**/*.meta")):
        raise SystemExit(f"mutmut could not begin: see {COPY / 'mutmut.log'}")
    return _outcome(place, paths, names)


def _settings(paths: list[str], tests: list[str]) -> str:
    selection = tests or [NEAR]
    arguments = ["-p", "no:xdist", "-p", "no:cacheprovider"]
    if not tests:
        arguments += [f"--ignore={NEAR}{TOO_SLOW}"]
    values = {
        "source_paths": [CORE.rstrip("/")],
        "only_mutate": [CORE + path for path in paths],
        "also_copy": ["relaybroker", "adapters", "fixtures", "docs"],
        "pytest_add_cli_args": arguments,
        "pytest_add_cli_args_test_selection": selection,
        "timeout_multiplier": float(PATIENCE),
        "track_dependencies": False,
        "use_git_change_detection": False,
    }
    return "\n[tool.mutmut]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _outcome(place: Path, paths: list[str], names: list[str] | None) -> Outcome:
    from libcst import parse_module

    outcome = Outcome()
    for path in paths:
        stored = place / "mutants" / f"{CORE}{path}.meta"
        if not stored.exists():
            continue
        codes, mutated = json.loads(stored.read_text())["exit_code_by_key"], None
        for name, code in codes.items():
            if names is not None and name not in names:
                continue
            if code in KILLED:
                outcome.killed += 1
            elif code in (SURVIVED, UNTESTED):
                mutated = mutated or parse_module(stored.with_suffix("").read_text())
                outcome.survivors.append(described(path, name, _difference(mutated, name)))
            else:
                outcome.undecided += 1
    return outcome


def _difference(mutated: Any, name: str) -> str:
    """What a change changes, as a unified diff of its function."""
    from libcst import Module
    from mutmut.mutation.diff_apply import read_mutant_function, read_original_function

    was, now = (
        Module([read(mutated, name)]).code.splitlines() for read in (read_original_function, read_mutant_function)
    )
    return "\n".join(difflib.unified_diff(was, now, lineterm="", n=0))


def described(path: str, name: str, difference: str) -> str:
    """One line for a change: module, function, what was and what is instead. It stays the same while its function is edited elsewhere."""
    function = name.rpartition(".")[2].partition("__mutmut_")[0][2:].replace("ǁ", ".")  # without x_ or xǁ
    lines = [line for line in difference.splitlines() if line[:1] in "-+" and line[:3] not in ("---", "+++")]
    was = " ".join(line[1:].strip() for line in lines if line[0] == "-")
    now = " ".join(line[1:].strip() for line in lines if line[0] == "+")
    return f"{path.removesuffix('.py').replace('/', '.')}.{function}: {was} => {now}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""No test asserts seconds: a machine may be slow.

Cost is asserted as counts, as growth (tests/growth.py) or as a ratio to something measured in the same run; absolute figures belong to
`make bench`. Waits end on a condition, with a deadline that a ten times slower machine meets (tests/waiting.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import WAIT_S

TESTS = Path(__file__).parents[2]
CLOCKS = ("monotonic", "perf_counter", "process_time", "thread_time", "time", "monotonic_ns", "perf_counter_ns")
SHORTEST_S = 60.0
"""Of all deadlines."""


def _is_clock(node: ast.AST) -> bool:
    """A reading of the machine's clock: `time.monotonic()` and its like, or the clock of an event loop, `loop.time()`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = ast.unparse(node.func.value)
    return (node.func.attr in CLOCKS and owner == "time") or (node.func.attr == "time" and "loop" in owner)


def _is_difference(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and any(map(_is_clock, ast.walk(node)))


def _is_figure(node: ast.AST) -> bool:
    """A number that stands for itself, or a constant's name, or both in some expression."""
    words = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
    return not any(isinstance(one, ast.Call) for one in ast.walk(node)) and all(word.id.isupper() for word in words)


def _outside_lambdas(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of an expression that are evaluated with it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield from _outside_lambdas(child)


def _lasted(tree: ast.AST) -> set[str]:
    """Variables that hold how long something took, or several such."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(map(_is_difference, _outside_lambdas(node.value))):
            names |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            list_name = node.func.value
            if isinstance(list_name, ast.Name) and any(map(_is_difference, ast.walk(node))):
                names.add(list_name.id)
    return names


def _asserted(tree: ast.AST) -> list[int]:
    """Lines that compare how long something took with a figure."""
    lines = []
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        lasted = _lasted(function)
        for node in ast.walk(function):
            if not isinstance(node, ast.Compare):
                continue
            sides = [node.left, *node.comparators]
            timed = [
                side
                for side in sides
                if any(map(_is_difference, ast.walk(side)))
                or any(isinstance(one, ast.Name) and one.id in lasted for one in ast.walk(side))
            ]
            if timed and any(_is_figure(side) for side in sides if side not in timed):
                lines.append(node.lineno)
    return lines


def _hasty(tree: ast.AST) -> list[int]:
    """Lines with a deadline that a slow machine may miss."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = [
            *(node.args[-1:] if called in ("asyncio.timeout", "asyncio.wait_for", "pytest.mark.timeout") else ()),
            *(word.value for word in node.keywords if word.arg in ("limit_s", "deadline_s", "total")),
        ]
        lines += [
            node.lineno
            for one in given
            if isinstance(one, ast.Constant) and isinstance(one.value, int | float) and one.value < SHORTEST_S
        ]
    return lines


def _places(look, pattern):
    return [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob(pattern))
        if "programs" not in path.parts
        and path.relative_to(TESTS).parts[0] != "agents"  # real programs: not in `make test`
        for line in look(ast.parse(path.read_text("utf-8")))
    ]


def test_no_test_compares_how_long_something_took_with_a_figure():
    assert _places(_asserted, "test_*.py") == []


def test_no_deadline_is_one_that_a_slow_machine_misses():
    assert _places(_hasty, "*.py") == []


@pytest.mark.parametrize(
    "text",
    [
        "assert time.monotonic() - began < 2",
        "assert asyncio.get_running_loop().time() - began < 4.5",
        "took = time.perf_counter() - began; assert took < LIMIT_S * 2",
        "took = []; took.append(time.process_time() - began); assert min(took) < 1.0",
    ],
)
def test_seconds_would_be_found(text):
    lines = "\n    ".join(text.split("; "))
    assert _asserted(ast.parse(f"def test():\n    {lines}"))


def test_comparing_two_durations_is_what_is_wanted():
    text = "def test():\n    one = time.monotonic() - a\n    two = time.monotonic() - b\n    assert one < 2 * two"
    assert not _asserted(ast.parse(text))
    assert _hasty(ast.parse("asyncio.timeout(3)"))
    assert WAIT_S >= SHORTEST_S

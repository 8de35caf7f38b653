"""A name says what it holds. `found`, `told` and `stands` say only how somebody came by it, and are names of nothing in the product."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.citations import PRODUCT, ROOT, sources

SAY_NOTHING = frozenset({"found", "told", "stands"})


def _names_given(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every function, parameter, variable, attribute and alias; the fields of a record are named by what is on disk."""
    fields = {
        field.target
        for record in ast.walk(tree)
        if isinstance(record, ast.ClassDef)
        for field in record.body
        if isinstance(field, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) if node not in fields:
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.alias(asname=str(name)):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case _:
                pass


def _saying_nothing(text: str) -> list[int]:
    return [line for line, name in _names_given(ast.parse(text)) if name.strip("_") in SAY_NOTHING]


def test_every_name_says_what_it_holds():
    lines = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(*PRODUCT)
        for line in _saying_nothing(path.read_text("utf-8"))
    ]
    assert lines == []


@pytest.mark.parametrize(
    "text",
    [
        "found = read()",
        "self._told = text",
        "from domain import announcements as told",
        "found, rest = read()",
        "if (found := read()): pass",
        "[found for found in rows]",
        "for told in rows: pass",
        "with opened() as stands: pass",
        "def told(error): pass",
        "def draft_changed(*, stands): pass",
        "lambda found: found.name",
        "match row:\n    case {'id': found}: pass",
        "class Record:\n    def _told(self): pass",
    ],
)
def test_a_name_that_says_nothing_would_be_seen(text):
    assert _saying_nothing(text)


@pytest.mark.parametrize(
    "text",
    [
        "class HandedBack:\n    stands: bool = False",
        "record(stands=True)",
        "recorded_input.decode(text)",
        "is_found = True",
    ],
)
def test_a_field_a_module_and_a_flag_keep_their_names(text):
    assert not _saying_nothing(text)

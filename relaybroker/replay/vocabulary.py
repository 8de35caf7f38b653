"""The words of this program: every word that its own rules could compare something with.

A word that stands in our own source tells nothing of a person, and a decision can depend on no other word. So what is not in here may be
replaced, by construction: a new field, a new frame, a new key of a payload is replaced without anybody thinking of it.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from types import CodeType

from relaybroker.adapters.sessions.terminal import harnesses

_PACKAGES = (
    "relaybroker.domain",
    "relaybroker.adapters.websocket",
    "relaybroker.adapters.sessions",
    "relaybroker.adapters.http",
)
_LONGEST = 64
"""A longer constant is a sentence, not a word."""
WORD = re.compile(r"[A-Za-z0-9]+")


@cache
def words() -> frozenset[str]:
    """Every word of the source, and of the programs that are known by name."""
    vocabulary: set[str] = set()
    for name in _modules():
        spec = find_spec(name)
        assert spec is not None, "it was just listed"
        assert spec.origin is not None, "our modules are files"
        code = SourceFileLoader(name, spec.origin).get_code(name)
        if code is not None:
            vocabulary.update(word for constant in _constants(code) for word in WORD.findall(constant))
    for profile in harnesses.profiles().values():
        vocabulary.update(word for text in (profile.name, *profile.commands) for word in WORD.findall(text))
    return frozenset(word for word in vocabulary if not word.isdigit())


def _modules() -> Iterator[str]:
    for package in _PACKAGES:
        yield package
        yield from (module.name for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."))


def _constants(code: CodeType) -> Iterator[str]:
    """Names, and constants that have no space: a sentence of ours is no word."""
    yield from code.co_names
    yield from code.co_varnames
    waiting = list(code.co_consts)
    while waiting:
        constant = waiting.pop()
        if isinstance(constant, CodeType):
            yield from _constants(constant)
        elif isinstance(constant, tuple | frozenset):
            waiting.extend(constant)
        elif isinstance(constant, str) and len(constant) <= _LONGEST and " " not in constant and "\n" not in constant:
            yield constant

"""What may be a name: of an agent, and of everything else that people and programs read.

A name is shown in terminals, logs and the headers of messages, so what it holds must be what is seen.

Source: spec/engine-contract.md section 1.5.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

AGENT_NAME_MAX = 128
LABEL_MAX = 200
"""Characters of any other name."""

FILE_NAME_MAX = 255
"""Characters of the name of a file."""

_AGENT_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{AGENT_NAME_MAX - 1}}}")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of what is not shown, or shown as something else."""


def is_agent_name(text: str) -> bool:
    """Letters, digits, `.`, `_` and `-`, a letter or digit first, never `..`."""
    return _AGENT_NAME.fullmatch(text) is not None and ".." not in text


def is_label(text: str) -> bool:
    """Visible characters, and spaces between them."""
    return text == text.strip() and not any(unicodedata.category(sign) in _UNSEEN for sign in text)


def _agent_name(text: str) -> str:
    if not is_agent_name(text):
        raise ValueError(f"must be 1 to {AGENT_NAME_MAX} letters, digits, dots, underscores or hyphens, without '..'")
    return text


def _label(text: str) -> str:
    if not is_label(text):
        raise ValueError("must hold visible characters only, and no space at its ends")
    return text


def _file_name(text: str) -> str:
    if text in (".", "..") or "/" in text or "\\" in text:
        raise ValueError("must be the name of a file, without a folder")
    return _label(text)


AgentName = Annotated[str, Field(min_length=1), AfterValidator(_agent_name)]
"""The name of an agent."""
Label = Annotated[str, Field(min_length=1, max_length=LABEL_MAX), AfterValidator(_label)]
"""The name of a node, a workspace, an action, a capability, a group."""
FileName = Annotated[str, Field(min_length=1, max_length=FILE_NAME_MAX), AfterValidator(_file_name)]
"""The name of a file: no path."""

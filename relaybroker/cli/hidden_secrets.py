"""Keys leave the places where others read them: the arguments (everybody on the machine) and the environment (every program of the user).

What a process was started with stays readable in `/proc` for its whole life, whatever it forgets later. So a broker that was given secrets
there starts itself anew, as the same process, without them; they come along in a file without a name, which is read once and closed.

Source: spec/local-api.md section 11.10.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import msgspec

from relaybroker.domain.command_line import SECRET_VARIABLES
from relaybroker.domain.decoding import NOT_READABLE

KEY_OPTION = "--workspace-key"
_DESCRIPTOR = "RELAYBROKER_SECRETS_FD"
_KEY = "key"
_log = logging.getLogger(__name__)


def hide(workspace_key: str) -> str:
    """Put the secrets of the environment and this key out of sight; returns, perhaps in the second life of the process, with the key.

    Afterwards the environment holds the secrets as far as this process alone sees it.
    """
    if _DESCRIPTOR in os.environ:
        return _taken_along() or workspace_key
    secrets = {name: os.environ[name] for name in SECRET_VARIABLES if os.environ.get(name)}
    if workspace_key:
        secrets[_KEY] = workspace_key
    if secrets:
        try:
            _start_anew(secrets)
        except OSError as error:
            _log.warning(
                "keys stay in the arguments or the environment of this process, where others read them: %s", error
            )
    return workspace_key


def _taken_along() -> str:
    """The secrets of the first life."""
    descriptor = os.environ.pop(_DESCRIPTOR)
    try:
        with os.fdopen(int(descriptor), "rb") as file:
            file.seek(0)
            secrets = msgspec.json.decode(file.read(), type=dict[str, str])
    except (OSError, *NOT_READABLE):
        return ""  # somebody else's variable
    key = secrets.pop(_KEY, "")
    os.environ.update({name: value for name, value in secrets.items() if name in SECRET_VARIABLES})
    return key


def _start_anew(secrets: dict[str, str]) -> None:
    descriptor = os.memfd_create("relaybroker", 0)
    os.write(descriptor, msgspec.json.encode(secrets))
    os.set_inheritable(descriptor, True)
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, without_key(sys.orig_argv), environment | {_DESCRIPTOR: str(descriptor)})  # noqa: S606 - ourselves


def without_key(words: Sequence[str]) -> list[str]:
    """A command line without the option that holds the key."""
    kept: list[str] = []
    skips = False
    for word in words:
        if skips:
            skips = False
        elif word == KEY_OPTION:
            skips = True
        elif not word.startswith(f"{KEY_OPTION}="):
            kept.append(word)
    return kept

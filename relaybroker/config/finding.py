"""Where a project keeps its broker: looked for from the current directory upward, as version control does.

Source: spec/local-api.md section 4.2.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STATE = Path(".agentworkforce/relay")
CONFIG = "relaybroker.toml"
HARNESSES = "harnesses"
"""Directory of the user's own profiles, beside his settings."""


class Place(NamedTuple):
    """A state directory, and the directory of the project that it is of."""

    state: Path
    project: Path


def state_directory(option: str | Path | None, environ: Mapping[str, str], cwd: Path) -> Place:
    """The state directory that is meant: the named one, else that of the nearest project upward, else one in the current directory.

    A project is known by its state directory or its configuration file, which may name another place for the state.
    """
    named = option or environ.get("AGENT_RELAY_STATE_DIR", "").strip()
    if named:
        return Place(Path(named), cwd)
    for folder in _upward(cwd, environ):
        if (folder / CONFIG).is_file():
            return Place(folder / _named_in(folder / CONFIG), folder)
        if (folder / STATE).is_dir():
            return Place(folder / STATE, folder)
    return Place(cwd / STATE, cwd)


def _named_in(file: Path) -> Path:
    """The state directory that a configuration file names; one that cannot be read says so when the broker is started."""
    try:
        state_dir = tomllib.loads(file.read_text(encoding="utf-8")).get("state_dir")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return STATE
    return Path(state_dir) if isinstance(state_dir, str) and state_dir else STATE


def config_file(option: str | Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The configuration file that is meant: the named one, else the nearest upward, else the user's; None = there is none."""
    named = option or environ.get("RELAYBROKER_CONFIG", "").strip()
    if named:
        return cwd / named
    for folder in _upward(cwd, environ):
        if (folder / CONFIG).is_file():
            return folder / CONFIG
    own = user_directory(environ)
    return own / CONFIG if own is not None and (own / CONFIG).is_file() else None


def user_directory(environ: Mapping[str, str]) -> Path | None:
    """Where this user keeps settings; None without a home directory."""
    named, home = environ.get("XDG_CONFIG_HOME", "").strip(), environ.get("HOME", "").strip()
    if named:
        return Path(named) / "relaybroker"
    return Path(home) / ".config" / "relaybroker" if home else None


def _upward(cwd: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """The current directory and those above it, on the same side of the home directory: what lies beside somebody's home is another's."""
    home = environ.get("HOME", "").strip()
    for folder in (cwd, *cwd.parents):
        yield folder
        if home and folder == Path(home):
            return

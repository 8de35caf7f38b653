"""Profiles of the operator's own programs: a directory with a TOML file for each, read once at start.

Source: spec/conversation.md section 3; ADR-0080.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.terminal import harnesses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def harness_files(directory: Path) -> dict[str, str]:
    """The files of a directory (path -> text); each holds a profile.

    Raises:
        harnesses.HarnessError: the directory or a file cannot be read, or is not what it should be; the text names file and key.
    """
    files = dict(_texts(directory))
    harnesses.read(files)
    return files


def _texts(directory: Path) -> Iterator[tuple[str, str]]:
    try:
        files = sorted(file for file in directory.iterdir() if file.suffix == ".toml")
        if len(files) > harnesses.MAX_OWN:
            raise harnesses.HarnessError(
                f"{directory} has {len(files)} profiles; at most {harnesses.MAX_OWN} are taken"
            )
        for file in files:
            with file.open("rb") as source:
                text = source.read(harnesses.MAX_OWN_BYTES + 1)
            if len(text) > harnesses.MAX_OWN_BYTES:
                raise harnesses.HarnessError(f"{file} has more than {harnesses.MAX_OWN_BYTES // 1024} KiB")
            yield str(file), text.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise harnesses.HarnessError(f"the profiles in {directory} cannot be read: {error}") from error

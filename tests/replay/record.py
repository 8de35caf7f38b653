"""Make the recordings again: `make record-sessions`, or `python -m tests.replay.record [NAME…]` for some of them.

Every story is run with real processes and its log is exported; paths of this machine are replaced. A recording is written only if it
shows what `sessions.toml` says, holds nothing private and is decided the same by this version.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from relaybroker.audit.log import reading
from relaybroker.replay.exporting import export
from tests.replay import recordings
from tests.replay.stories import STORIES, Story

ROOT = Path(__file__).parents[2]


def main(wanted: list[str]) -> None:
    """Record the wanted recordings, or all."""
    if unknown := set(wanted) - {name for names in STORIES.values() for name in names}:
        sys.exit(f"no story makes {', '.join(sorted(unknown))}")
    for story, names in STORIES.items():
        if not wanted or set(names) & set(wanted):
            with tempfile.TemporaryDirectory(prefix="session-") as place:
                _record(story, Path(place).resolve())


def _record(story: Story, folder: Path) -> None:
    drafts = made(story, folder)
    if faults := [f"{name} {problem}" for name, draft in drafts.items() for problem in problems(draft, name)]:
        sys.exit("nothing is written:\n" + "\n".join(faults))
    for name, draft in drafts.items():
        recordings.path_of(name).write_bytes(draft.read_bytes())
        print(f"{name}: {draft.stat().st_size // 1024} KiB")


def made(story: Story, folder: Path) -> dict[str, Path]:
    """Run a story in an empty directory; its recordings there, by name."""
    replaced = {str(folder): "/srv", sys.executable: "/usr/bin/python3", str(ROOT): "/opt"}
    drafts = {}
    for name, state in zip(STORIES[story], asyncio.run(story(folder)), strict=True):
        draft = drafts[name] = folder / f"{name}.jsonl"
        with reading(state) as log, draft.open("wb") as file:
            export(log, file, name=name, says=recordings.expected()[name].says)
        text = draft.read_text(encoding="utf-8")
        for here, there in replaced.items():
            text = text.replace(here, there)
        draft.write_text(text, encoding="utf-8")
    return drafts


def problems(draft: Path, name: str) -> list[str]:
    """Why a draft is no recording of this name."""
    faults = [f"is decided otherwise at #{one.position}: {one.cause}" for one in recordings.play(draft).differences]
    faults += [f"does not show {subject} often enough" for subject in recordings.missing(draft, name)]
    return faults + [f"holds {leak}" for leak in recordings.private(draft)]


if __name__ == "__main__":
    main(sys.argv[1:])

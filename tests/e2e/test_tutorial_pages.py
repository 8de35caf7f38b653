"""The pages that walk through something are walked: every command on them is run, in order, in a shell that stops at the first failure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.waiting import WAIT_S

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def home(tmp_path):
    yield tmp_path
    for process in psutil.process_iter(["cmdline"]):
        if str(tmp_path) in " ".join(process.info["cmdline"] or ()):
            process.kill()


@pytest.mark.parametrize("page", ["tutorial", "incident"])
def test_every_command_of_the_page_does_what_it_says(page, home):
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) > 4
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=home,
        env={"HOME": str(home), "PATH": path, "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert done.stdout.rstrip().splitlines()[-1].lower().startswith("the broker has stopped")

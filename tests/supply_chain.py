"""`make audit`: known vulnerabilities of what is installed, and a list of it (SBOM, CycloneDX) in `build/sbom.json`.

Without a network there is nothing to ask: that is said, loudly, and is no failure; a finding is one. The licences are checked by a test.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "build" / "audit"
SBOM = ROOT / "build" / "sbom.json"
PATIENCE_S = 90.0


def main() -> int:
    """The exit status: 1 for a finding."""
    if not _tools():
        print("SKIPPED: the tools of the audit cannot be installed here; nothing was checked", file=sys.stderr)
        return 0
    SBOM.parent.mkdir(exist_ok=True)
    made = _run(
        "cyclonedx-py", "environment", sys.executable, "--pyproject", "pyproject.toml", "--of", "JSON", "-o", str(SBOM)
    )
    if made.returncode:
        print(made.stderr, file=sys.stderr)
        return 1
    print(f"{len(json.loads(SBOM.read_text())['components'])} components are listed in {SBOM.relative_to(ROOT)}")
    asked = _run(
        "pip-audit",
        "--require-hashes",
        "--disable-pip",
        "-r",
        "requirements.lock",
        "-f",
        "json",
        "--progress-spinner",
        "off",
    )
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(
            f"SKIPPED: the vulnerability service cannot be asked; nothing was checked: {asked.stderr[-500:]}",
            file=sys.stderr,
        )
        return 0
    return _print_known(packages)


def _print_known(packages: list[dict[str, Any]]) -> int:
    asked = [package for package in packages if "skip_reason" not in package]
    known = [(package, one) for package in asked for one in package["vulns"]]
    print(f"{len(asked)} of {len(packages)} packages were looked up: {len(known)} known vulnerabilities")
    if not asked:
        print("SKIPPED: the registry here has no vulnerability data; nothing was checked", file=sys.stderr)
    for package, one in known:
        print(
            f"{package['name']} {package['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'no version'}"
        )
    return 1 if known else 0


def _run(tool: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(TOOLS / "bin" / tool), *words]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{tool} has not answered for {PATIENCE_S:g} s")


def _tools() -> bool:
    if (TOOLS / "bin" / "pip-audit").exists():
        return True
    subprocess.run([sys.executable, "-m", "venv", str(TOOLS)], check=True)
    words = ["install", "--quiet", "--disable-pip-version-check", "-r", str(ROOT / "tests" / "audit.txt")]
    return subprocess.run([str(TOOLS / "bin" / "pip"), *words], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())

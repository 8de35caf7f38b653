"""The packages that users install with relaybroker, and their licences, from the installed metadata.

`ALLOWED` is the whole list: what is not in it is for somebody to decide. LGPL is allowed for a library that is imported as it is.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement

ALLOWED = frozenset(
    {
        "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "BSD", "ISC", "PSF-2.0", "MPL-2.0", "LGPL-3.0",
    }
)  # fmt: skip

_SPELT = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "BSD 2-Clause License": "BSD-2-Clause",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0",
}


def runtime() -> dict[str, Distribution]:
    """Every package that an installation of relaybroker brings along, by name."""
    distributions: dict[str, Distribution] = {}
    waiting = [Requirement("relaybroker")]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in distributions:
            continue
        distributions[name] = distribution(name)
        for line in distributions[name].requires or ():
            needed = Requirement(line)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return distributions


def licences(package: Distribution) -> set[str]:
    """The licences of a package, as SPDX writes them; empty when it names none."""
    meta = package.metadata
    if expression := meta.get("License-Expression"):
        return set(re.findall(r"[A-Za-z0-9.+-]+", expression)) - {"AND", "OR", "WITH"}
    classified = [line.split(" :: ")[-1] for line in meta.get_all("Classifier") or () if line.startswith("License")]
    given = classified or [line for line in (meta.get("License") or "").splitlines()[:1] if line]
    return {_SPELT.get(name, name) for name in given}

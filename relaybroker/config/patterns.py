"""How names may be written in settings."""

from __future__ import annotations

import re

VARIABLES = re.compile(r"[A-Za-z_*?][A-Za-z0-9_*?]*")
"""Names of variables, and patterns of such."""

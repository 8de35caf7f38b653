"""What tests of several rooms need."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaybroker.adapters.token_cache import TokenCache
from relaybroker.adapters.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """Without any key or token."""
    cache = TokenCache(tmp_path / "n", node_id="n", workspace_id="w", base_url="u")
    return Vault(workspace_key="", agents_directory=tmp_path / "run", node_cache=cache, own_cache=cache)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relaybroker.adapters.token_cache import TokenCache
from relaybroker.adapters.vault import Vault


@pytest.fixture
def make_cache(tmp_path: Path) -> Callable[..., TokenCache]:
    def make(node_id: str = "node_1", workspace_id: str = "ws_1", base_url: str = "http://e", kind: str = "node"):
        return TokenCache(
            tmp_path / "data" / f"{kind}-tokens", node_id=node_id, workspace_id=workspace_id, base_url=base_url
        )

    return make


@pytest.fixture
def make_vault(tmp_path: Path, make_cache: Callable[..., TokenCache]) -> Callable[..., Vault]:
    def make(pinned: str = "") -> Vault:
        return Vault(
            workspace_key="rk_live_secret",
            agents_directory=tmp_path / "run" / "tokens",
            node_cache=make_cache(),
            own_cache=make_cache(kind="own"),
            pinned_node_token=pinned,
        )

    return make

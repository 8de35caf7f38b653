"""Makes the local API of a broker from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaybroker import __version__
from relaybroker.adapters.http.api.server import LocalApi
from relaybroker.api.openapi import document
from relaybroker.mcp.toolbox import AgentToolbox
from relaybroker.web import assets

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.config.settings import Settings


def make_local_api(*, api_key: str, settings: Settings, request_shutdown: Callable[[str], None]) -> LocalApi:
    """A local API that is not listening yet."""
    return LocalApi(
        api_key=api_key,
        version=__version__,
        persist=settings.persist,
        base_url=settings.engine_url,
        document=document,
        make_tools=AgentToolbox,
        page=assets(),
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        request_shutdown=request_shutdown,
    )

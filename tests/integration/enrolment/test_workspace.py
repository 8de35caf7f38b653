from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relaybroker.config.settings import Flags, Settings, take_settings
from relaybroker.enrolment.workspace import UNKNOWN, WorkspaceError, resolve

KEY = "rk_live_" + "b" * 32
MADE = (201, {"ok": True, "data": {"workspace_id": "ws_made", "api_key": KEY}})
FOUND = (200, {"ok": True, "data": {"id": "ws_found", "name": "x"}})
REFUSED = (401, {"ok": False, "error": {"code": "unauthorized", "message": "no"}})
TAKEN = (409, {"ok": False, "error": {"code": "workspace_already_exists", "message": "no"}})


class WorkspaceService:
    """Answers every request with the next of `answers`, the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.requests: list[tuple[str, str, str, Any]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, request.headers.get("Authorization", ""), body))
        status, answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(answer, status=status)


@pytest.fixture
async def service() -> AsyncIterator[WorkspaceService]:
    played = WorkspaceService()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", played.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    played.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield played
    await runner.cleanup()


def settings(service: Any, **environ: str) -> Settings:
    return take_settings(Flags(), {"RELAY_BASE_URL": service.url} | environ, Path("/home/u/p"))


async def test_a_workspace_is_made_once_and_kept_privately(service: Any, tmp_path: Path) -> None:
    service.answers = [MADE]
    path = tmp_path / "workspace.json"
    for _ in range(2):
        workspace = await resolve(settings(service), service.url, path, user="u")
        assert (workspace.workspace_id, workspace.key) == ("ws_made", KEY)
        assert KEY not in repr(workspace)
    [(method, where, _, body)] = service.requests
    assert (method, where) == ("POST", "/v1/workspaces")
    assert len(body["name"]) == len("relay-") + 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_starts_at_the_same_moment_make_one_workspace(service: Any, tmp_path: Path) -> None:
    service.answers = [MADE]
    path = tmp_path / "workspace.json"
    workspaces = await asyncio.gather(*(resolve(settings(service), service.url, path, user="u") for _ in range(4)))
    assert len(service.requests) == 1
    assert {one.workspace_id for one in workspaces} == {"ws_made"}


async def test_a_name_that_is_taken_gives_way_to_another(service: Any, tmp_path: Path) -> None:
    service.answers = [TAKEN, MADE]
    workspace = await resolve(settings(service), service.url, tmp_path / "workspace.json", user="u")
    assert workspace.workspace_id == "ws_made"
    names = [body["name"] for _, _, _, body in service.requests]
    assert len(set(names)) == 2


@pytest.mark.parametrize("status", [400, 403, 500, 503])
async def test_a_failed_creation_is_not_repeated(service: Any, tmp_path: Path, status: int) -> None:
    """F130."""
    service.answers = [(status, {"ok": False, "error": {"code": "internal_error", "message": "x"}})]
    with pytest.raises(WorkspaceError, match=f"{status} internal_error"):
        await resolve(settings(service), service.url, tmp_path / "workspace.json", user="u")
    assert len(service.requests) == 1
    assert not (tmp_path / "workspace.json").exists()


async def test_a_given_key_is_asked_about_once_and_never_kept(service: Any, tmp_path: Path) -> None:
    service.answers = [FOUND]
    path = tmp_path / "workspace.json"
    for _ in range(2):
        workspace = await resolve(settings(service, RELAY_WORKSPACE_KEY=KEY), service.url, path, user="u")
        assert (workspace.workspace_id, workspace.key) == ("ws_found", KEY)
    assert [(method, where, auth) for method, where, auth, _ in service.requests] == [
        ("GET", "/v1/workspace", f"Bearer {KEY}")
    ]
    assert KEY not in path.read_text()


async def test_another_key_is_asked_about_again(service: Any, tmp_path: Path) -> None:
    service.answers = [FOUND]
    path = tmp_path / "workspace.json"
    await resolve(settings(service, RELAY_WORKSPACE_KEY=KEY), service.url, path, user="u")
    await resolve(settings(service, RELAY_WORKSPACE_KEY=KEY[:-1] + "c"), service.url, path, user="u")
    assert len(service.requests) == 2


async def test_an_explicit_key_that_is_refused_is_fatal(service: Any, tmp_path: Path) -> None:
    service.answers = [REFUSED]
    with pytest.raises(WorkspaceError, match="refused the workspace key") as refused:
        await resolve(settings(service, RELAY_WORKSPACE_KEY=KEY), service.url, tmp_path / "w.json", user="u")
    assert KEY not in str(refused.value)


async def test_a_key_that_is_not_explicit_gives_way(service: Any, tmp_path: Path) -> None:
    service.answers = [REFUSED, MADE]
    workspace = await resolve(
        settings(service, RELAY_API_KEY="rk_live_old"), service.url, tmp_path / "w.json", user="u"
    )
    assert (workspace.workspace_id, workspace.key) == ("ws_made", KEY)


async def test_a_workspace_of_another_engine_is_not_used(service: Any, tmp_path: Path) -> None:
    service.answers = [MADE]
    path = tmp_path / "workspace.json"
    await resolve(settings(service), service.url, path, user="u")
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"base_url": "http://elsewhere"}))
    await resolve(settings(service), service.url, path, user="u")
    assert len(service.requests) == 2


async def test_a_node_token_alone_asks_nothing(service: Any, tmp_path: Path) -> None:
    workspace = await resolve(
        settings(service, RELAY_NODE_TOKEN="nt_live_x"), service.url, tmp_path / "w.json", user="u"
    )
    assert workspace == (UNKNOWN, "")
    assert service.requests == []


@pytest.mark.parametrize("answer", [(200, {"ok": True, "data": {}}), (200, [1]), (200, {"data": {"id": 5}})])
async def test_an_answer_that_says_nothing_is_an_error(service: Any, tmp_path: Path, answer: Any) -> None:
    service.answers = [answer]
    with pytest.raises(WorkspaceError):
        await resolve(settings(service, RELAY_WORKSPACE_KEY=KEY), service.url, tmp_path / "w.json", user="u")


async def test_a_damaged_file_is_named_and_kept(service: Any, tmp_path: Path) -> None:
    (tmp_path / "workspace.json").write_text("{")
    with pytest.raises(WorkspaceError, match=r"workspace\.json"):
        await resolve(settings(service), service.url, tmp_path / "workspace.json", user="u")
    assert (tmp_path / "workspace.json").read_text() == "{"

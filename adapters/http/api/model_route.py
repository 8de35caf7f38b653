"""POST /api/spawned/{name}/model: another model for a program that runs.

The command is typed when the program takes text and nothing else is being typed; what was typed is in the log by the agent's new model.

Source: spec/local-api.md section 1.3, route 8.
"""

from __future__ import annotations

import asyncio
import re

from aiohttp import web

from relaybroker.adapters.http.api.answers import Answer
from relaybroker.adapters.http.api.bodies import ModelBody
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.input_stream import Write
from relaybroker.adapters.http.api.rendering import rendered
from relaybroker.adapters.http.api.routing import route
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.domain import inputs
from relaybroker.domain.entities import Registration
from relaybroker.domain.errors import InvalidRequest, Refusal

MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\[\]-]{0,127}")
LOOK_S = 0.05
ENTER_S = 0.3
"""Between the command and Enter: programs take a quick Enter for a part of a paste."""
RECORD_WAIT_S = 5.0


class ModelSet(Answer, frozen=True, kw_only=True):
    """The model that the agent was switched to."""

    success: bool
    name: str
    model: str


class ModelRoute:
    """The handler of the model route.

    Args:
        access: the broker.
        write: writes to a terminal.
    """

    def __init__(self, access: BrokerAccess, write: Write) -> None:
        self._access, self._write = access, write

    @route(
        "POST /api/spawned/{name}/model",
        "Switch the model of the agent's program.",
        errors=(404, 409, 429, 503, 504),
        about="name",
    )
    async def switch(self, request: web.Request, body: ModelBody) -> ModelSet:
        """POST /api/spawned/{name}/model."""
        model = body.model.strip()
        if not model:
            raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required field: model", field="model")
        if not MODEL.fullmatch(model):
            raise InvalidRequest(
                Refusal.INVALID, "invalid_model", f"'{model[:140]}' is not a model name", field="model"
            )
        registration = self._find(request.match_info["name"])
        command = harnesses.profile(registration.harness.profile).model_command
        if not command:
            text = f"'{registration.spec.cli}' has no command that switches its model"
            raise InvalidRequest(Refusal.CONFLICT, "model_switch_unsupported", text, name=registration.name)
        await self._until_free(registration, body.timeout_ms / 1000)
        await self._write(registration.session_id, command.format(model=model).encode())
        await asyncio.sleep(ENTER_S)
        await self._write(registration.session_id, b"\r")
        reply = await self._access.ask(
            lambda request_id: inputs.ModelSwitched(request_id=request_id, name=registration.name, model=model),
            RECORD_WAIT_S,
        )
        rendered(reply)
        return ModelSet(success=True, name=registration.name, model=model)

    def _find(self, name: str) -> Registration:
        registration = self._access.state.registration_of(name)
        program = self._access.state.workers.get(registration.session_id) if registration is not None else None
        if registration is None or program is None or program.ended:
            raise InvalidRequest(Refusal.ABSENT, "agent_not_found", f"unknown worker '{name}'", name=name)
        return registration

    async def _until_free(self, registration: Registration, timeout_s: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self._is_free(registration):
            if asyncio.get_running_loop().time() >= deadline:
                text = f"'{registration.name}' had no free prompt within {timeout_s:g} s; nothing was typed"
                raise InvalidRequest(Refusal.NO_ANSWER, "request_timeout", text, name=registration.name)
            await asyncio.sleep(LOOK_S)

    def _is_free(self, registration: Registration) -> bool:
        program = self._access.state.workers.get(registration.session_id)
        if program is None or program.ended:
            raise InvalidRequest(Refusal.UNAVAILABLE, "worker_disappeared", "the agent's program has ended")
        return program.state == "ready" and not program.typing

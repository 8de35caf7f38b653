"""What a route is: a handler that says beside itself what it does, and by its annotations what it takes and answers.

    class HoldRoutes:
        @route("PUT /api/spawned/{name}/delivery-mode", "Set an agent's delivery mode.", errors=(404, 409), about="name")
        async def set_mode(self, request: web.Request, body: ModeBody) -> ModeChanged: ...

The server and the OpenAPI document read the same mark: nothing is said of a route anywhere else.

* `body: M` is the request's JSON object as this model; `Annotated[dict[str, Any], M]` is the object itself, documented as the model.
* `query: M` is the query as this model.
* What is returned is sent as JSON in the shape of its annotation. `Annotated[web.Response, T]` is an answer that the handler makes
  itself, in the shape `T`; `web.Response` is one without a fixed shape, `web.StreamResponse` a WebSocket.

Source: spec/local-api.md section 1.1.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from aiohttp import web
from pydantic import BaseModel, ValidationError

from relaybroker.adapters.http.api.bodies import Body, parse, read_json
from relaybroker.adapters.http.api.envelope import Handler, about, answer
from relaybroker.domain.errors import InvalidRequest, Refusal

_MARK = "relaybroker_route"
_ALWAYS = (403, 413, 503)
_BODY_ERRORS = (400, 408)

_F = TypeVar("_F", bound=Callable[..., Awaitable[Any]])


class Route(NamedTuple):
    """One route of the local API.

    `answer` is a type that msgspec can describe, None for a WebSocket, `Any` for a JSON value without a fixed shape. `agents` says what an
    agent does here with its own token; "" = it is refused. `settled`: what is told is durable, and so is everything told before.
    """

    method: str
    path: str
    summary: str
    name: str
    """Of the handler."""
    body: type[Body] | None
    is_raw: bool
    """The handler takes the JSON object itself."""
    query: type[BaseModel] | None
    answer: Any
    errors: tuple[int, ...]
    about: str
    agents: str
    settled: bool
    is_open: bool
    media: str

    @property
    def key(self) -> str:
        """`METHOD /path`."""
        return f"{self.method} {self.path}"


class _Mark(NamedTuple):
    route: str
    summary: str
    errors: tuple[int, ...]
    about: str
    agents: str
    settled: bool | None
    is_open: bool
    media: str


def route(
    route: str,
    summary: str,
    *,
    errors: tuple[int, ...] = (),
    about: str = "",
    agents: str = "",
    settled: bool | None = None,
    is_open: bool = False,
    media: str = "application/json",
) -> Callable[[_F], _F]:
    """Marks the handler of a route.

    Args:
        route: method and path.
        summary: what it does, one sentence.
        errors: statuses of its refusals, besides those that every route has, and those of its body and query.
        about: the part of the path, or the field of the body, that its refusals name.
        agents: what an agent does here with its own token; "" = not for agents.
        settled: whether it waits until what it tells is durable; by default every GET does.
        is_open: it needs no key.
        media: the type of its answer.
    """

    def mark(handler: _F) -> _F:
        setattr(handler, _MARK, _Mark(route, summary, errors, about, agents, settled, is_open, media))
        return handler

    return mark


def routes_of(group: type) -> tuple[Route, ...]:
    """The routes of a class of handlers, in the order in which they are written."""
    return tuple(_read(name, made) for name, made in vars(group).items() if hasattr(made, _MARK))


def _read(name: str, handler: Any) -> Route:
    mark: _Mark = getattr(handler, _MARK)
    hints = get_type_hints(handler, include_extras=True)
    method, path = mark.route.split(" ")
    model, is_raw = _model(hints.get("body"))
    query = hints.get("query")
    named = (*mark.errors, *(_BODY_ERRORS if model else ()), *((400,) if query else ()))
    return Route(
        method=method,
        path=path,
        summary=mark.summary,
        name=name,
        body=model,
        is_raw=is_raw,
        query=query,
        answer=_shape(hints["return"]),
        errors=tuple(sorted({*named, *_ALWAYS, *(() if mark.is_open else (401,))})),
        about=mark.about,
        agents=mark.agents,
        settled=method == "GET" if mark.settled is None else mark.settled,
        is_open=mark.is_open,
        media=mark.media,
    )


def _model(hint: Any) -> tuple[type[Body] | None, bool]:
    if get_origin(hint) is Annotated:
        return next(one for one in get_args(hint) if isinstance(one, type) and issubclass(one, Body)), True
    return hint, False


def _shape(hint: Any) -> Any:
    if get_origin(hint) is Annotated:
        return get_args(hint)[1]
    if hint is web.Response:
        return Any
    return None if inspect.isclass(hint) and issubclass(hint, web.StreamResponse) else hint


def served(endpoint: Route, group: object) -> Handler:
    """The handler of this route, as aiohttp calls it."""
    handler = getattr(group, endpoint.name)

    async def handle(request: web.Request) -> web.StreamResponse:
        value = await read_json(request) if endpoint.body is not None else {}
        with about(endpoint.about, request.match_info.get(endpoint.about, value.get(endpoint.about))):
            given: dict[str, Any] = {}
            if endpoint.body is not None:
                given["body"] = value if endpoint.is_raw else parse(endpoint.body, value)
            if endpoint.query is not None:
                given["query"] = _query(endpoint.query, request)
            made = await handler(request, **given)
        return made if isinstance(made, web.StreamResponse) else answer(made)

    return handle


def _query(model: type[BaseModel], request: web.Request) -> BaseModel:
    """The query as this model.

    Raises:
        InvalidRequest: `invalid_field`, with the name in `field`.
    """
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        wrong = error.errors()[0]
        key = str(wrong["loc"][0]) if wrong["loc"] else ""
        raise InvalidRequest(Refusal.INVALID, "invalid_field", f"{key}: {wrong['msg']}", field=key) from error

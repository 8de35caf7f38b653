"""The core's answers as clients get them: status and JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from relaybroker.adapters.http.api.envelope import refused
from relaybroker.adapters.http.api.rendering import rendered
from relaybroker.domain.effects import Reply
from relaybroker.domain.errors import InvalidRequest


class Answer(NamedTuple):
    status: int
    body: dict[str, Any]


def answer_of(reply: Reply) -> Answer:
    try:
        made = rendered(reply)
    except InvalidRequest as error:
        response = refused(error)
        return Answer(response.status, msgspec.json.decode(response.body))
    return Answer(200, msgspec.json.decode(msgspec.json.encode(made)))

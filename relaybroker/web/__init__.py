"""The web page of a broker: plain files, served by the local API as they are. It imports nothing."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple


class Asset(NamedTuple):
    """A file of the page."""

    body: bytes
    media: str


_MEDIA = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
NAMES = ("index.html", "app.js", "app.css")


def assets() -> dict[str, Asset]:
    """Every file of the page, by its name."""
    folder = resources.files("relaybroker.web")
    return {name: Asset((folder / name).read_bytes(), _MEDIA[name.rpartition(".")[2]]) for name in NAMES}

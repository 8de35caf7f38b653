"""The former place of `adapters.sessions.host` and `adapters.sessions.terminal`: what other programs import from here is still found."""

from pathlib import Path

_SESSIONS = Path(__file__).parent.with_name("sessions")
__path__ = [str(_SESSIONS / "host"), str(_SESSIONS / "terminal")]

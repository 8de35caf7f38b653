"""The pytest plugin: `replay_session`, `simulated_broker`, `live_broker`, `any_broker`.

Installed with relaybroker; nothing is loaded before it is used.

Source: spec/architecture.md section 9; docs/testing.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from relaybroker.replay.playing import Outcome
    from relaybroker.testing.broker import TestBroker
    from relaybroker.testing.live import LiveBroker
    from relaybroker.testing.simulated import SimulatedBroker


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker."""
    config.addinivalue_line(
        "markers",
        "relaybroker(**options): how this test's simulated_broker (seed, in_doubt, engine, terminals) or live_broker (environment) is made",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its broker can say about itself."""
    report = yield
    if report.when == "call" and report.failed:
        for name in ("simulated_broker", "live_broker"):
            broker = getattr(item, "funcargs", {}).get(name)
            if broker is not None:
                report.sections.append((name, broker.account()))
    return report


@pytest.fixture
def replay_session() -> Callable[..., Outcome]:
    """Decide a recorded session again and fail where this version decides otherwise; see `relaybroker.testing.sessions`."""
    from relaybroker.testing.sessions import replay_session as replay

    return replay


@pytest.fixture
def simulated_broker(request: pytest.FixtureRequest) -> Iterator[SimulatedBroker]:
    """A broker with simulated engine, terminals, disk and clock; see `relaybroker.testing.simulated`."""
    from relaybroker.testing.simulated import SimulatedBroker

    broker = SimulatedBroker(**_options(request, _SIMULATED))
    yield broker
    broker.verify()


@pytest.fixture
def live_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveBroker]:
    """A real broker with its embedded engine, in a temporary directory; see `relaybroker.testing.live`."""
    from relaybroker.testing.live import LiveBroker

    broker = LiveBroker(tmp_path, **_options(request, _LIVE))
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@pytest.fixture(params=["simulated_broker", "live_broker"])
def any_broker(request: pytest.FixtureRequest) -> TestBroker:
    """The test runs twice, on a simulated and on a live broker; see `relaybroker.testing.broker`."""
    broker: TestBroker = request.getfixturevalue(request.param)
    return broker


_SIMULATED, _LIVE = frozenset({"seed", "in_doubt", "engine", "terminals"}), frozenset({"environment"})


def _options(request: pytest.FixtureRequest, known: frozenset[str]) -> dict[str, Any]:
    """What the test's marker says of this broker. A key that no broker has is an error, and so is a value without a name."""
    marker = request.node.get_closest_marker("relaybroker")
    if marker is None:
        return {}
    unknown = marker.kwargs.keys() - _SIMULATED - _LIVE
    if unknown or marker.args:
        said = ", ".join([*sorted(unknown), *map(repr, marker.args)])
        raise pytest.UsageError(
            f"the marker relaybroker takes {', '.join(sorted(_SIMULATED | _LIVE))}; this test gives it {said}"
        )
    return {key: value for key, value in marker.kwargs.items() if key in known}

"""Moments as text, against the standard library."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from relaybroker.domain.instants import SECONDS_BELOW, epoch_seconds, rfc3339


@given(st.integers(0, SECONDS_BELOW * 1000 - 1))
def test_every_moment_is_written_as_the_standard_library_writes_it_and_read_back(millis):
    text = rfc3339(millis / 1000)
    assert text == datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert round(epoch_seconds(text) * 1000) == millis

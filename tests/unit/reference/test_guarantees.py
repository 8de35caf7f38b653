"""Every promise has a test that names it."""

from __future__ import annotations

import pytest

from relaybroker.reference import pages
from relaybroker.reference.guarantees import GUARANTEES

PROMISES = [promise for promises in GUARANTEES.values() for promise in promises]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.id)
def test_a_promise_is_kept_by_a_test(promise):
    assert pages.tests_by_id().get(promise.id), f"no test names {promise.id}: {promise.promise}"


def test_no_promise_is_given_twice():
    assert len({promise.id for promise in PROMISES}) == len(PROMISES)

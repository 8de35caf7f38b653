"""What users install with relaybroker may be used by them: every licence is one of those that were decided on."""

from __future__ import annotations

from tests.licences import ALLOWED, licences, runtime


def test_every_package_that_users_install_has_a_licence_that_is_allowed():
    packages = runtime()
    assert {"aiohttp", "msgspec", "pyte", "multidict"} <= set(packages), "the closure, not the first level"
    odd = {
        name: licences(package)
        for name, package in packages.items()
        if not licences(package) or licences(package) - ALLOWED
    }
    assert odd == {}

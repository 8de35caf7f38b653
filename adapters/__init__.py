"""Adapters: everything that talks to the world outside the core. They import domain, and no room of `relaybroker`."""

"""The relaybroker application: everything that is put around the core and its adapters."""

__version__ = "0.1.0"

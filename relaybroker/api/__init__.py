"""The local API as this program serves it, with its OpenAPI document. It imports audit, config, adapters and domain; never the node."""

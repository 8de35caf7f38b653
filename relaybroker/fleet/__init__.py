"""The agents that a project's configuration file wants, made so on a running broker over its local API. It imports config and adapters."""

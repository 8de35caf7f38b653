"""The broker as a service of the machine: unit files, and what installs and removes them. It imports config."""

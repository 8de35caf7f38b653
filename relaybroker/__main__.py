"""`python -m relaybroker` is the `relaybroker` command."""

from relaybroker.cli import main

if __name__ == "__main__":
    main()

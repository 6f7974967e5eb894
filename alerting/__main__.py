"""`python -m alerting`: the system's own commands and processes. None waits for the imports of the others."""

import sys

PROCESSES = frozenset({"api", "webhooks", "relay", "feeds"})


def main() -> None:
    """The console script."""
    wanted = sys.argv[1] if sys.argv[1:] else ""
    if wanted == "cap":
        from alerting.cap_command import app

        app(sys.argv[2:], prog_name="alerting cap")
    elif wanted in PROCESSES:
        from alerting.processes import app

        app(prog_name="alerting")
    else:
        from alerting.commands import app

        app(prog_name="alerting")


if __name__ == "__main__":
    main()

"""`python -m alerting`: the system's own commands; `cap`, for anyone who writes CAP, begins without the others."""

import sys

from alerting import cap_command


def main() -> None:
    """The console script."""
    if sys.argv[1:2] == ["cap"]:
        cap_command.app(sys.argv[2:], prog_name="alerting cap")
    else:
        from alerting.commands import app  # a second of imports that checking a file does not need

        app(prog_name="alerting")


if __name__ == "__main__":
    main()

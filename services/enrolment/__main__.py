"""`python -m services.enrolment serve | migrate | people | …`."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until all is loaded: Python's way is a traceback through all that

from typing import TYPE_CHECKING

from kit.commandline import main
from services.enrolment.app import build

if TYPE_CHECKING:
    import cyclopts


def operators(app: "cyclopts.App") -> None:
    from services.enrolment.operating import operators  # what only the command line needs takes 3 MB of a server

    operators(app)


if __name__ == "__main__":
    main("enrolment", build, operators)

"""The command line that every service has: `python -m services.<name> serve | migrate | …`."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kit.service import Service, migrate, run

if TYPE_CHECKING:
    import cyclopts

TYPED = "KURSNETT_TYPED"  # what somebody typed instead of `python -m services.<name> …`, such as `kursnett parked list`


def main(name: str, build: Callable[[], Service], also: "Callable[[cyclopts.App], None]" = lambda app: None) -> None:
    """The command line of a service: `serve`, `migrate`, the operators' commands, and what `also` adds."""
    if sys.argv[1:] == ["serve"]:  # the libraries of the command line take 4 MB that a server never needs
        run(build())
        return
    import cyclopts

    from kit import operating, recovering, republishing

    app = cyclopts.App(help="One service of Kursnett.", version_flags=[], suppress_keyboard_interrupt=False)

    @app.command(name="serve")
    def _serve() -> None:
        """Serve HTTP, listen to events and publish our own, until SIGTERM."""
        run(build())

    @app.command(name="migrate")
    def _migrate() -> None:
        """Make the database's schema and this service's topics ready."""
        migrate(build())

    if os.environ.get("KURSNETT_LOG_LEVEL") != "debug":
        logging.disable()  # the libraries would tell in their own words what is said here
    operating.add(app, build)
    republishing.add(app, build)
    recovering.add(app, build)
    also(app)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # from now on it is told
    code, words = _ended(app, f"python -m services.{name} {' '.join(sys.argv[1:3])}")
    if words:
        sys.stderr.write(f"kursnett: {words}\n" if TYPED in os.environ else f"{words}\n")
    sys.exit(code)


def _ended(app: "cyclopts.App", typed: str) -> tuple[int, str]:
    """Run what was typed to its end: the exit code, and what a person must be told."""
    import cyclopts

    try:
        try:
            app(exit_on_error=False, print_error=False)
        finally:
            sys.stdout.flush()  # what cannot be written is told here: Python would tell it in its own words
    except SystemExit as end:
        return (1, end.code) if isinstance(end.code, str) else (end.code or 0, "")
    except cyclopts.CycloptsError as error:
        return 1, f"{error} See: {os.environ.get(TYPED) or typed} --help"
    except KeyboardInterrupt:
        return 130, "Stopped before its end."
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does Python try again when it ends
        # Somebody who read what he wanted and closed the pipe need not be told.
        return (0, "") if isinstance(error, BrokenPipeError) else (1, f"It cannot go on: {error.strerror or error}.")
    except Exception as error:
        if os.environ.get("KURSNETT_LOG_LEVEL") == "debug":
            raise
        mend = "Please report it, with what KURSNETT_LOG_LEVEL=debug shows when you run the same command again."
        return 1, f"It met a fault of its own ({type(error).__name__}: {error}). {mend}"
    return 0, ""

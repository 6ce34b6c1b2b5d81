"""The command line that every service has: `python -m services.<name> serve | migrate | …`."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kit.service import Service, migrate, run

if TYPE_CHECKING:
    import cyclopts


def main(name: str, build: Callable[[], Service], also: "Callable[[cyclopts.App], None]" = lambda app: None) -> None:
    """The command line of a service: `serve`, `migrate`, the operators' commands, and what `also` adds."""
    if sys.argv[1:] == ["serve"]:  # the libraries of the command line take 4 MB that a server never needs
        run(build())
        return
    import cyclopts

    from kit import operating, recovering

    app = cyclopts.App(help="One service of Kursnett.", version_flags=[])

    @app.command(name="serve")
    def _serve() -> None:
        """Serve HTTP, listen to events and publish our own, until SIGTERM."""
        run(build())

    @app.command(name="migrate")
    def _migrate() -> None:
        """Make the database's schema and this service's topics ready."""
        migrate(build())

    operating.add(app, build)
    recovering.add(app, build)
    also(app)
    try:
        app(exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        sys.exit(f"{error} See: python -m services.{name} {' '.join(sys.argv[1:3])} --help")

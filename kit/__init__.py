"""The thin runtime that the services share."""

import sys

# structlog brings in rich wherever it is installed, as it is for the command line: 4 MB of a server, for nothing.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # so Python marks what cannot be had
    import structlog  # noqa: F401

    del sys.modules["rich"]

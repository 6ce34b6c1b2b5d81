"""The first moment of `kursnett`: Ctrl-C while the rest is loaded ends it without a word, as it does any program."""

import signal

# Python's own way would be a traceback through whatever is loaded just then.
signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Load the command line and run it. From then on it is asked to stop, and says what it did."""
    from deploy.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()

"""How the command line says that something cannot be done: one clear sentence, and what mends it."""


class Trouble(Exception):
    """A sentence for a person: what is wrong, and what to do about it. Never shown as a traceback."""

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(f"{what} {mend}".strip())
        self.what = what
        self.mend = mend

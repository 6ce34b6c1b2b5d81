"""How the command line says that something cannot be done: one clear sentence, and what mends it."""

import errno


class Trouble(Exception):
    """A sentence for a person: what is wrong, and what to do about it. Never shown as a traceback."""

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(f"{what} {mend}".strip())
        self.what = what
        self.mend = mend


def refused(error: OSError) -> Trouble | None:
    """What the system would not let us do with a file, said for a person; None when it is no such refusal."""
    own = "Set KURSNETT_HOME (the stack's data) and KURSNETT_CACHE (what was fetched) to folders of your own."
    if isinstance(error, PermissionError):
        return Trouble(f"You may not use {error.filename}.", f"Does it belong to another user? {own}")
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return Trouble(f"{error.filename} is no folder, or lies in a file.", own)
    if error.errno == errno.EROFS:
        return Trouble(f"{error.filename} is on a disk that is read-only.", own)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Trouble("The disk is full, or your share of it.", f"Make room (df -h). {own}")
    return None

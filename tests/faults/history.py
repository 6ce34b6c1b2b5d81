"""The record of a run: every call, every answer and every fault, one JSON line each, in the order they came."""

import json
import time
from pathlib import Path
from typing import Any, Self

Line = dict[str, Any]

OUTCOMES = ("ok", "fail", "info")


class History:
    """Append-only JSON lines, in memory and in a file that outlives a crash of the suite.

    A call is one `invoke` line and one outcome, both with `id` (the operation: one idempotency key) and `n` (which try
    of it): `ok` was answered as wanted, `fail` was refused for certain, `info` is unknown (a time-out, a reset, 5xx).
    A fault is one `fault` line and one `heal` line with the same `id`; `f` is its kind (`kill`, `freeze`, `cut`, ...)
    and `target` what it hit, by the name that FaultStack gives it. An `exit` line tells which program (`who`) ended
    and how (`status`), a `start` line that it was started again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, kind: str, **fields: Any) -> Line:
        """Write one line; `i` and `t` (monotonic seconds) are given here. Returns the line."""
        line: Line = {"i": len(self.lines), "t": round(time.monotonic(), 4), "kind": kind, **fields}
        self.lines.append(line)
        self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        if kind not in ("invoke", *OUTCOMES):  # faults are few, and the last one before a crash is what one looks for
            self._file.flush()
        return line


def read(path: Path) -> list[Line]:
    """The lines of an earlier run."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

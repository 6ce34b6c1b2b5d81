"""How a person sees a stack start, stop and run: a line for each program, and a table of addresses at the end."""

import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from deploy.local.issuer import LOGINS
from deploy.local.places import Places

MARKS = {"ready": "[green]✓[/]", "failed": "[red]✗[/]", "stopped": "[dim]–[/]"}


class Progress:
    """Shows each program's state: a table that changes on a terminal, a line for each change elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
        self._told: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, state: dict[str, Any]) -> None:
        """Called many times a second with what the supervisor wrote."""
        if self._live is not None:
            self._live.update(self._table(state))
            return
        if state.get("phase") == "ready" and not self._told:
            return  # it ran before we looked: there is no progress to tell
        for name, known in state.get("programs", {}).items():
            now = (known["state"], re.sub(r"\d+", "", known["text"]))  # not a line for each of 46 downloads
            if now != self._told.get(name) and known["state"] != "waiting":
                self._told[name] = now
                seconds = time.time() - state["began"]
                self._console.print(f"{seconds:6.1f} s  {name:<10} {known['state']} {known['text']}".rstrip())

    @staticmethod
    def _table(state: dict[str, Any]) -> Table:
        table = Table(box=None, show_header=False, padding=(0, 1))
        for name, known in state.get("programs", {}).items():
            seconds = f"{known['ready_seconds']:.1f} s" if known["ready_seconds"] is not None else ""
            text = known["text"] or known["state"]
            table.add_row(MARKS.get(known["state"], "[yellow]…[/]"), name, text, seconds)
        return table


def summary(places: Places, seconds: float | None) -> Table:
    """Where to go, whom to log in as, and what to do next."""
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    table = Table(title=f"Kursnett is ready{took}", title_justify="left", show_header=False, title_style="bold green")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for what, where in {
        "Gateway": places.gateway,
        "Mail": f"http://localhost:{places.port('mail')}",
        "Issuer": places.issuer,
        "Kafka": places.address("kafka"),
        "Kafka for partners": places.address("kafka-partners"),
        "PostgreSQL": places.address("postgres"),
        "Logs": str(places.logs),
    }.items():
        table.add_row(what, where)
    table.add_section()
    for kind, login in LOGINS.items():
        table.add_row(f"Log in as {kind}", f"{login.username}  (kursnett token --as {login.username})")
    table.add_section()
    for what, how in next_steps(places).items():
        table.add_row(what, how)
    return table


def next_steps(places: Places) -> dict[str, str]:
    """What a person may want to do now, and how; in a second terminal when the first one holds the stack."""
    steps = {
        "Find a course": f"{places.gateway}/  (log in by any name)",
        "See how it runs": f"{places.gateway}/drift  (log in as operator)",
        "Enrol by program": "README.md, under “A first enrolment”",
        "Watch one seat's story": "kursnett demo",
        "Is all well?": "kursnett status, kursnett doctor",
        "Stop, start over": "kursnett down, kursnett reset",
    }
    ours = Path(sys.executable).with_name("kursnett")
    if shutil.which("kursnett") == str(ours) or not ours.exists():
        return steps
    return {"To have kursnett": f'PATH="{ours.parent}:$PATH"', **steps}

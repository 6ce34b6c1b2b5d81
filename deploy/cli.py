"""The `kursnett` command: every group of commands is registered here, and every refusal becomes one clear sentence."""

import logging
import os
import signal
import sys
from functools import partial
from types import FrameType

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from deploy.commands import audit, backup, doctor, operate, stack, token
from deploy.trouble import Trouble, refused

app = App(
    name="kursnett",
    help="""Kursnett on this machine: start it, look at it, operate it.

Examples: `kursnett up --detach`, `kursnett status`, `kursnett logs enrolment --follow`, `kursnett up --help`

A second stack beside the first: set KURSNETT_HOME (its folder; `.kursnett`), KURSNETT_PORT (its gateway; 8080) and
KURSNETT_BASE_PORT (all else counts from it; 18000) for each command.""",
    help_format="markdown",
    version_flags=[],
    default_parameter=Parameter(show_default=False),  # every default is the flag's absence
)
for command in (stack.up, stack.status, stack.logs, stack.down, stack.reset, token.token, doctor.doctor, audit.audit):
    app.command(command)
for group in (operate.partners, operate.parked, operate.consumer, operate.people, operate.mail):
    app.command(group)
for operating in (operate.timeline, operate.demo):
    app.command(operating)
for passed_on in (operate.replay, operate.republish, operate.acts):
    app.command(passed_on, help_flags=[])  # the services' own
for saving in (backup.backup, backup.restore):
    app.command(saving)
app.command(operate.bring_in, name="import", help_flags=[])


def main() -> None:
    """Run one command. Exits with 1 when it is refused and with 130 when it is interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, partial(_hang_up, [one for one in (1, 2) if os.isatty(one)]))
    errors = Console(stderr=True, highlight=False)
    if os.environ.get("KURSNETT_LOG_LEVEL") != "debug":
        logging.disable()  # the libraries would tell in their own words what is said here
    try:
        code = app(exit_on_error=False, print_error=False)
    except CycloptsError as error:
        sys.exit(_refuse(errors, Trouble(str(error), "See: kursnett --help")))
    except Trouble as trouble:
        sys.exit(_refuse(errors, trouble))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # somebody read what he wanted and closed: `kursnett logs | head`
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if os.environ.get("KURSNETT_LOG_LEVEL") == "debug":
            raise
        known = refused(error) if isinstance(error, OSError) else None
        if known is not None:
            sys.exit(_refuse(errors, known))
        mend = "Please report it, with what KURSNETT_LOG_LEVEL=debug shows when you run the same command again."
        sys.exit(_refuse(errors, Trouble(f"That met a fault of its own ({type(error).__name__}: {error}).", mend)))
    sys.exit(code)


def _refuse(errors: Console, trouble: Trouble) -> int:
    errors.print(f"[bold red]kursnett:[/] {_plain(trouble.what)}", soft_wrap=True)
    if trouble.mend:
        errors.print(f"          {_plain(trouble.mend)}", soft_wrap=True)
    return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _hang_up(terminals: list[int], number: int, frame: FrameType | None) -> None:
    """The terminal is gone: what cannot be told there any more must not end what is still to be done."""
    for one in terminals:
        os.dup2(os.open(os.devnull, os.O_WRONLY), one)
    raise KeyboardInterrupt


def _plain(text: str) -> str:
    """Text that may hold square brackets, which rich would take for markup."""
    return text.replace("[", r"\[")


if __name__ == "__main__":
    main()

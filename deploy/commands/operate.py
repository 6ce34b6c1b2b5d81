"""partners, parked, consumer, replay, republish and timeline: a service's own commands, asked for from outside."""

import asyncio
import json
import re
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from deploy.demo import story
from deploy.local.places import ROOT, SERVICES, Places
from deploy.local.service import become, command, together
from deploy.local.stack import Stack
from deploy.trouble import Trouble
from kit.parking import readable

console = Console(highlight=False)
HELP = ("--help", "-h")
Rest = Annotated[str, Parameter(allow_leading_hyphen=True)]

partners = App(name="partners", help="Providers of courses: `partners list`, `partners add SLUG --name … --arena …`")
parked = App(name="parked", help="Records that could not be handled, of one service: read, run again, give up.")
consumer = App(name="consumer", help="Pause and resume what a service listens with.")
people = App(name="people", help="Who acts for a partner or runs the system; and to have one forgotten.")
mail = App(name="mail", help="Addresses that mail servers refuse for good: list them, write to them again.")


def _pass_on(service: str, verb: str, *arguments: str, is_named: bool = True) -> None:
    """Run a service's own command in this one's place. Raises Trouble when there is none to run.

    `is_named`: whoever types the command names the service. How it is used is told whether or not the stack runs.
    """
    if not {*HELP}.isdisjoint((service, *arguments)):
        _show_help(service if service in SERVICES else SERVICES[0], verb, is_named)
        return
    places = _running()
    if service not in SERVICES:  # an option where the service should be: it was left out
        named = f"There is no service {service!r}." if service and service[0] != "-" else "Say which service."
        raise Trouble(named, f"Choose one of: {', '.join(SERVICES)}. Example: kursnett {verb} {SERVICES[0]}")
    become(places, service, *verb.split(), *arguments, typed=_typed(verb, service if is_named else ""))


def _show_help(service: str, verb: str, is_named: bool) -> None:
    """A service's own words on how its command is used, as one types it here."""
    told = asyncio.run(command(None, service, *verb.split(), "--help"))
    typed = _typed(verb, "SERVICE" if is_named else "")
    told = told.replace(f"python -m services.{service} {verb}", typed)
    example = re.compile(r"(Examples?:\s+)" + verb.replace(" ", r"\s+") + r"\b")  # it may be on two lines
    print(example.sub(rf"\1{typed}", told), end="")


def _typed(verb: str, service: str) -> str:
    return f"kursnett {verb} {service}".rstrip()


def _running() -> Places:
    stack = Stack.here()
    if stack.supervisor is None:
        raise Trouble("The stack does not run.", "Start it: make up, or kursnett up --detach")
    return stack.places


def _group(group: App, verb: str, help: str, service: str | None = None) -> None:
    """Register one verb; its options are the service's own, and so is its `--help`."""
    if service is not None:

        @group.command(name=verb, help=help, help_flags=[])
        def _fixed(*arguments: Rest) -> None:
            _pass_on(service, f"{group.name[0]} {verb}", *arguments, is_named=False)

        return

    @group.command(name=verb, help=help, help_flags=[])
    def _named(service: Rest = "", *arguments: Rest) -> None:
        _pass_on(service, f"{group.name[0]} {verb}", *arguments)


_group(
    partners,
    "add",
    "Let one in: SLUG --name NAME, --arena ARENA for each place, --orgnr NUMBER, "
    "--contact WHOM-TO-ASK, --mail ADDRESS, --json. "
    "Example: `kursnett partners add nesna --name Nesna --arena online`",
    "catalogue",
)
_group(partners, "list", "List the providers. Example: `kursnett partners list --json`", "catalogue")
_group(partners, "show", "Show one. Example: `kursnett partners show nesna`", "catalogue")
_group(
    partners,
    "mail",
    "Where one's office is told each morning: SLUG ADDRESS, --language nb, or --remove. "
    "Example: `kursnett partners mail nesna post@nesna.example --language nn`",
    "catalogue",
)
_group(
    partners,
    "suspend",
    "Take nothing more from one; what it sends is kept. "
    "Example: `kursnett partners suspend nesna --reason 'the contract has ended'`",
    "catalogue",
)
_group(
    partners,
    "release",
    "Take from one again; what was kept runs on. Example: `kursnett partners release nesna`",
    "catalogue",
)
_group(
    partners,
    "rotate-key",
    "A new key and a new Kafka password for one, shown once. Example: `kursnett partners rotate-key nesna`",
    "catalogue",
)
_group(
    partners,
    "retractions",
    "List what was retracted with people enrolled and is not decided; --json. Example: `kursnett partners retractions`",
    "catalogue",
)
_group(
    partners,
    "confirm",
    "Cancel what waits there, and have people told: SLUG CODE, and KEY of a run. "
    "Example: `kursnett partners confirm nesna HAV-1 V27`",
    "catalogue",
)
_group(
    partners,
    "keep",
    "Take back what waits there: SLUG CODE, and KEY of a run. Example: `kursnett partners keep nesna HAV-1 V27`",
    "catalogue",
)
_group(
    partners,
    "on-hold",
    "List the runs that have too few, and wait for their provider; --json. Example: `kursnett partners on-hold`",
    "catalogue",
)
_group(
    partners,
    "go-ahead",
    "Say that one of them takes place: SLUG CODE KEY. Example: `kursnett partners go-ahead nesna HAV-1 V27`",
    "catalogue",
)
_group(
    partners,
    "call-off",
    "Cancel one of them, and have people told: SLUG CODE KEY. Example: `kursnett partners call-off nesna HAV-1 V27`",
    "catalogue",
)


_group(
    people,
    "add",
    "Let a person act for a partner (--partner SLUG) or run the system (--role operator). "
    "Example: `kursnett people add tor --partner torgar`",
    "enrolment",
)
_group(people, "list", "List them. Example: `kursnett people list --json`", "enrolment")
_group(people, "remove", "Let a person be a learner again. Example: `kursnett people remove tor`", "enrolment")
_group(
    people,
    "erase",
    "Forget one who cannot log in, by the id of a learner or an enrolment: --reason WHY, --dry-run, --yes, --json. "
    "Example: `kursnett people erase 019ab4a0-b7f0-7278-b1fa-bdb6ebe4ec44 --reason 'letter of 12 May' --dry-run`",
    "enrolment",
)
_group(
    people,
    "erasures",
    "List who was to be forgotten, and which service has not answered. Example: `kursnett people erasures --json`",
    "enrolment",
)


@partners.command(name="sync", help_flags=[])
def _sync(*arguments: Rest) -> None:
    """Let in and change providers as a file says, deploy/partners.toml when none is named; --dry-run, --json.

    Who is not in the file stays as he is: nobody is taken out or suspended by it.

    Example: `kursnett partners sync --dry-run`
    """
    named = any(not one.startswith("-") for one in arguments)
    file = () if named else (str(ROOT / "deploy" / "partners.toml"),)
    _pass_on("catalogue", "partners sync", *file, *arguments, is_named=False)


_group(parked, "list", "List what is parked; --closed, --json. Example: `kursnett parked list catalogue --json`")
_group(parked, "show", "Show one record whole; --json. Example: `kursnett parked show catalogue 17`")
_group(parked, "redrive", "Let records run again. Example: `kursnett parked redrive catalogue 17 18`")
_group(parked, "discard", 'Give records up. Example: `kursnett parked discard catalogue 17 --reason "sent anew"`')
_group(consumer, "pause", 'Stop one, or all. Example: `kursnett consumer pause enrolment courses --reason "restoring"`')
_group(consumer, "resume", "Let one, or all, go on. Example: `kursnett consumer resume enrolment courses`")
_group(consumer, "status", "Show each: paused, lag, parked; --json. Example: `kursnett consumer status enrolment`")
_group(
    mail,
    "suppressed",
    "List addresses that nothing is sent to, by digest and learner. Example: `kursnett mail suppressed --json`",
    "notifier",
)
_group(
    mail,
    "release",
    "Write to a learner's address again; --dry-run. "
    "Example: `kursnett mail release 019ab4a0-b7f0-7278-b1fa-bdb6ebe4ec44 --dry-run`",
    "notifier",
)


def bring_in(file: Rest = "", *arguments: Rest) -> None:
    """Take in a CSV file of courses for a partner, all of it or nothing; `--partner SLUG`, `--dry-run`, `--json`.

    Example: `kursnett import courses.csv --partner torgar --dry-run`
    """
    if not file or (file[0] == "-" and file not in HELP):
        raise Trouble("Say which file.", "Example: kursnett import courses.csv --partner torgar --dry-run")
    _pass_on("catalogue", "import", file, *arguments, is_named=False)


def replay(service: Rest = "", *arguments: Rest) -> None:
    """Let a service's consumers, or those named, read again what was written since an instant; no mail is sent again.

    Example: `kursnett replay notifier enrolments --from 2026-11-24T08:00:00Z --dry-run`
    """
    _pass_on(service, "replay", *arguments)


def republish(service: Rest = "", *arguments: Rest) -> None:
    """Put on its topics again what a service has said since an instant, or say all of the catalogue's as it is now.

    Example: `kursnett republish catalogue --since 2026-11-20T00:00:00Z --dry-run`
    Example: `kursnett republish catalogue --state --dry-run`
    """
    _pass_on(service, "republish", *arguments)


def acts(service: Rest = "", *arguments: Rest) -> None:
    """List what operators have done to a service, on its console and at the command line; `--json`.

    Example: `kursnett acts catalogue --json`
    """
    _pass_on(service, "acts", *arguments)


def timeline(id: str, *, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Follow one thing through all services, by enrolment, event or correlation id.

    Example: `kursnett timeline 019ab3c4-…`
    """
    places = _running()
    rows = asyncio.run(_timeline(places, id))
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        told = "  ".join(f"{name}={value}" for name, value in row.items() if value and name not in ("at", "service"))
        print(readable(f"{row['at']}  {row['service']:<10} {told}"))
    if not rows:
        raise Trouble(f"No service knows {id}.", "Give an enrolment's id, an event's id or a correlation id.")


async def _timeline(places: Places, id: str) -> list[dict[str, Any]]:
    """Ask every service; then ask again for the requests and events found, so that what they caused is there."""
    found: dict[str, dict[str, Any]] = {}
    asked: set[str] = set()
    wanted = {id}
    for _ in range(2):
        if not wanted:
            break
        told = await together(command(places, service, "timeline", *sorted(wanted), "--json") for service in SERVICES)
        for service, rows in zip(SERVICES, told, strict=True):
            for row in json.loads(rows):
                found[json.dumps([service, row], sort_keys=True)] = {"service": service, **row}
        asked |= wanted
        wanted = {str(r[k]) for r in found.values() for k in ("correlation_id", "event_id") if r.get(k)} - asked
    return sorted(found.values(), key=lambda row: str(row["at"]))


def demo() -> None:
    """Play the story of one seat against the running stack: course, queue, withdrawal, mails.

    Example: `kursnett demo`
    """
    asyncio.run(story.play(_running(), lambda text: console.print(f"  {text}", markup=False, soft_wrap=True)))

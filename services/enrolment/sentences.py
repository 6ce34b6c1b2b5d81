"""What a page says when something could not be done: a plain sentence in the reader's language, and which field."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from kit.pages import languages
from kit.problems import Problem
from services.enrolment.asking import Closed
from services.enrolment.refusals import refused
from services.enrolment.site import group_name, site


def refusal(request: Request, problem: Problem) -> str:
    """Why it could not be done. Nothing was."""
    _, told = site().text(request), problem.extensions
    match problem.slug:
        case "offering-closed" if told.get("reason") == "cancelled":
            return _("Kurset er avlyst, så ingen kan melde seg på.")
        case "offering-closed" if told.get("reason") == "over":
            return _("Påmeldingsfristen er ute.")
        case "offering-closed":
            return _("Kurset har begynt, så ingen kan melde seg på lenger.")
        case "not-open-yet" | "other-group":
            return _not_open(request, problem)
        case "too-many-enrolments":
            words = _(
                "Du har allerede %(most)s plasser eller køplasser, så mange som én person kan ha. Meld deg av en."
            )
            return words % {"most": told["most"]}
        case "enrolling-too-often":
            words = _("Du har meldt deg på %(most)s ganger den siste timen, så mange som én person kan. Vent litt.")
            return words % {"most": told["most"]}
        case "no-offer":
            return _("Det er ikke noe tilbud å svare på lenger. Under ser du hvordan det står til nå.")
        case "offer-lapsed":
            return _("Fristen for å svare er ute. Plassen går til andre.")
        case "not-withdrawable":
            return _("Påmeldingen er over, så det er ingenting å melde seg av.")
        case "precondition-failed" if told.get("reason") == "moved":
            return _("Kurset er flyttet siden du åpnet siden. Se over når det er, og send skjemaet en gang til.")
        case "form-not-ours":
            return _(
                "Skjemaet kan ikke brukes lenger: du har logget inn på nytt siden du åpnet det. Se over det du har "
                "skrevet, og send det en gang til."
            )
        case "too-many-requests":
            return _("Det gikk litt fort. Vent et minutt, og send skjemaet en gang til.")
        case "busy":
            return _("Vi har det travelt akkurat nå. Vent noen sekunder, og send skjemaet en gang til.")
        case "precondition-failed":
            return _("Det har skjedd noe siden du åpnet siden. Se over hvordan det står til, før du velger.")
        case "not-pending":
            return _("Påmeldingen er allerede avgjort.")
    return _("Se over feltene som er merket.")


def offered_again(request: Request) -> tuple[str, str]:
    """(head, words) for one who says no to stand at the back of a line that holds nobody else."""
    _ = site().text(request)
    return _("Du har fått tilbudet på nytt"), _("Ingen andre venter på plassen. Svar ja, eller gå ut av køen.")


def _not_open(request: Request, problem: Problem) -> str:
    _, told = site().text(request), problem.extensions
    groups = ", ".join(group_name(one) for one in told["groups"])
    only = _("Nå er påmeldingen bare åpen for: %(groups)s.") % {"groups": groups}
    if not told.get("opens_at"):
        return only
    words = _("Påmeldingen åpner %(at)s.") % {
        "at": languages.moment(datetime.fromisoformat(told["opens_at"]), languages.spoken(request))
    }
    return f"{words} {only}" if groups else words


def states(request: Request) -> dict[str, str]:
    """State -> what the partner is told of an enrolment that is so."""
    _ = site().text(request)
    return {
        "associated": _("Plass"),
        "offered": _("Tilbud om plass"),
        "queued": _("I kø"),
        "pending": _("Venter på godkjenning"),
        "denied": _("Ikke godkjent"),
        "finished": _("Gjennomført"),
    }


def closed(request: Request, why: Closed) -> str:
    """Why nobody can ask at this hour."""
    return refusal(request, refused(why))


def fields(request: Request, chosen: Mapping[str, str], wrong: Problem | ValidationError) -> dict[str, str]:
    """Field of the form -> what is wrong with it. `chosen`: field -> place, of those that were chosen, in order."""
    _ = site().text(request)
    known = {
        "place1": _("Velg hvor du helst vil delta."),
        "place2": _("Velg et annet sted, eller la feltet stå tomt."),
        "place3": _("Velg et annet sted, eller la feltet stå tomt."),
        "name": _("Skriv navnet ditt på én linje, med høyst 200 tegn."),
        "email": _("Skriv e-postadressen din, for eksempel kari@example.no."),
        "phone": _("Skriv et telefonnummer, for eksempel 912 34 567 eller +46 70 123 45 67, eller la feltet stå tomt."),
        "language": _("Velg ett av språkene."),
        "group": _("Velg en av gruppene, eller ingen av dem."),
        "on_lapse": _("Velg ett av svarene."),
        "reason": _("Skriv en begrunnelse på én linje, med høyst 200 tegn."),
    }
    if isinstance(wrong, Problem) and wrong.slug == "place-twice":
        places = list(chosen.values())
        again = next(field for at, field in enumerate(chosen) if places[at] in places[:at])
        return {again: _("Du har valgt dette stedet allerede. Velg et annet, eller la feltet stå tomt.")}
    if isinstance(wrong, Problem):
        errors = wrong.extensions.get("errors", [])
        places_of = [error["field"].replace("]", "").split("[") for error in errors]
    else:
        places_of = [list(error["loc"]) for error in wrong.errors(include_input=False)]
    found = [_field(place, list(chosen)) for place in places_of]
    return {name: known[name] for name in known if name in found}


def full(request: Request) -> dict[str, str]:
    """As `fields`, for one in line who may take an open seat, and has asked where there is none."""
    _ = site().text(request)
    return {"place1": _("Det er ingen ledig plass der nå. Velg et sted som har en.")}


def _field(place: Sequence[Any], chosen: Sequence[str]) -> str:
    """The form's own name for a field of the command: `places[1]` is the second place that was chosen."""
    first, *rest = place or ["places"]
    if first == "places":
        return chosen[int(rest[0])] if rest else "place1"
    return str(rest[0]) if first == "contact" and rest else str(first)

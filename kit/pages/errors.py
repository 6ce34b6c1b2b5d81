"""What a person is told when a page cannot be shown: a plain sentence in their language, and a way on."""

from functools import cache

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from kit.pages import languages
from kit.pages.site import Site, here, login_address
from kit.pages.visitors import known
from kit.problems import Problem

NO_STORE = {"cache-control": "no-store"}
PROGRAMS = ("/api/", "/ooapi/", "/problems/", "/healthz", "/readyz", "/metrics")  # what they ask is answered in JSON


@cache
def site() -> Site:
    return Site()


def wanted(request: Request) -> bool:
    """Whether it is a person who asked, with a browser, for a page."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(PROGRAMS)


def answer(request: Request, problem: Problem) -> Response:
    """The problem as a page; whoever has to log in first is led there, and comes back."""
    looked = request.method in ("GET", "HEAD")  # a form that is sent again is the browser's business: it has the words
    if problem.status == 401 and looked:
        return RedirectResponse(login_address(here(request)), 303, NO_STORE)
    if problem.status == 405 and looked:
        # It takes nothing but forms, and is shown with what one was answered: people load it anew, or copy it.
        path = request.url.path
        above = request.app.state.page_above(path)
        if above != path:
            return RedirectResponse(request.url.replace(scheme="", netloc="", path=above), 303, NO_STORE)
    title, words = said(request, problem)
    return site().page(
        request,
        "error.html",
        problem.status,
        visitor=known(request),
        headers={name: value for name, value in problem.headers.items() if name != "www-authenticate"},
        title=title,
        words=words,
        login=login_address(here(request)) if problem.status == 401 else "",
        again=here(request) if looked and (problem.status == 429 or problem.status >= 500) else "",
        anew=here(request) if problem.slug == "form-not-ours" else "",
    )


def said(request: Request, problem: Problem) -> tuple[str, str]:
    """(title, words) in the reader's language."""
    _ = languages.texts(site().folder, languages.spoken(request)).gettext
    if problem.slug == "form-not-ours":
        return _("Skjemaet kan ikke brukes lenger"), _(
            "Det er for gammelt, eller kom fra en annen side. Ingenting er gjort. Gå tilbake, last siden på nytt og "
            "send skjemaet en gang til."
        )
    words = {
        401: (
            _("Du er logget ut"),
            _("Ingenting er sendt. Logg inn og prøv en gang til. Skrev du noe i et skjema, må du skrive det på nytt."),
        ),
        403: (
            _("Denne siden er ikke for deg"),
            _(
                "Du er logget inn, men dette er noe andre skal se eller gjøre. "
                "Er det feil, så spør den som ga deg lenken."
            ),
        ),
        404: (_("Siden finnes ikke"), _("Adressen er ikke riktig, eller det som sto her, er tatt bort.")),
        413: (_("Filen er for stor"), _("Del den opp og send delene hver for seg.")),
        429: (_("Det gikk litt fort"), _("Vent et minutt og prøv en gang til. Ingenting er gjort.")),
        503: (_("Vi har det travelt akkurat nå"), _("Ingenting er gått tapt. Vent noen sekunder og prøv en gang til.")),
    }
    if problem.status in words:
        return words[problem.status]
    if problem.status >= 500:
        return _("Noe gikk galt hos oss"), _("Det er skrevet opp, og vi ser på det. Prøv en gang til om litt.")
    return _("Det gikk ikke"), _("Noe i det du sendte, kan vi ikke bruke. Gå tilbake og se over feltene.")

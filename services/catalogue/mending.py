"""What a partner is told of a mistake in plain words: which rule was broken, and how to mend it."""

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from kit.pages import languages
from kit.pages.languages import SLOT, SOURCE
from services.catalogue.details import Shown
from services.catalogue.words import FOLDER

Gettext = Callable[[str], str]


class Rule(NamedTuple):
    """`words` may hold what the pattern's groups have found: `{0}`, `{1}`."""

    pattern: re.Pattern[str]
    words: str


def in_words(detail: str, language: str) -> Shown:
    """A mistake as `sheet`, `commands` and the models tell it, in the reader's language, or as it is in English."""
    for rule in _rules(language):
        if found := rule.pattern.fullmatch(detail):
            return Shown(rule.words.format(*found.groups()), SOURCE if language == SLOT else language)
    return Shown(detail, "en")


@cache
def _rules(language: str) -> list[Rule]:
    _ = languages.texts(FOLDER, language).gettext
    said = {
        r"(.+) is not a subject; choose of (.+)": _("{0} er ikke et fagområde. Velg blant {1}."),
        r"(.+) is not an arena of this partner; choose of (.+)": _("{0} er ikke et av stedene deres. Velg blant {1}."),
        r"is missing: a row with a run needs it": _("Cellen er tom. En rad med datoer må ha den."),
        r"is missing from the header: a file with offerings needs it": _(
            "Kolonnen mangler. En fil med datoer må ha den."
        ),
        r"is missing from the header": _("Kolonnen mangler i første rad."),
        r"is missing from the header, as are title_nn and title_en: one must be there": _(
            "En kolonne for tittelen mangler: title_nb, title_nn eller title_en."
        ),
        r"is not a column; is (.+) meant\?": _("Kolonnen finnes ikke. Mener du {0}?"),
        r"is not a column; there are (.+)": _("Kolonnen finnes ikke. Disse finnes: {0}."),
        r"stands twice in the header": _("Kolonnen står to ganger. Ta bort den ene."),
        r"has commas between its columns: use semicolons": _(
            "Det er komma mellom kolonnene. Lagre filen med semikolon mellom dem."
        ),
        r"has (\d+) cells; the header has (\d+)": _("Raden har {0} celler, men første rad har {1}."),
        r"is not CSV: .+": _("Raden kan ikke leses. Se etter et anførselstegn som mangler."),
        r"is one too many: a file may have (\d+) rows": _("Filen er for lang. Del den opp: høyst {0} rader i hver."),
        r"is all there is: no row follows the header": _("Filen har bare overskrifter, og ingen rader."),
        r"must not begin with = \+ - or @": _("Cellen kan ikke begynne med =, +, - eller @."),
        r"is another than in row (\d+), for the same \w+": _("Det står noe annet i rad {0}, for det samme kurset."),
        r"stands in row (\d+) already, for this offering": _("Stedet står alt i rad {0}, for de samme datoene."),
        r"its (\w+) .+: a file cannot change it, HTTP and Kafka can": _(
            "Datoene har en regel som ikke passer til det som står her, og som en fil ikke kan endre ({0}). "
            "Den kan endres av programmet som ga den."
        ),
        r"is UTF-16: save it as CSV UTF-8": _("Filen er lagret som UTF-16. Lagre den som «CSV UTF-8»."),
        r"is not [\w-]+: save it as CSV UTF-8": _("Filen har tegn som ikke kan leses. Lagre den som «CSV UTF-8»."),
        r"holds a NUL: is it a CSV file\?": _("Dette er ikke en CSV-fil. Lagre regnearket som «CSV UTF-8»."),
        r"must be 1 to 60 of A-Z .+": _(
            "Bruk bare bokstaver fra A til Z, tall, punktum, strek og understrek, høyst 60 tegn."
        ),
        r"must be a time such as .+": _("Skriv tiden slik: 02.03.2027 18:00."),
        r"must be a time with its zone such as .+": _("Skriv tiden med tidssone, slik: 2027-03-02T18:00:00+01:00."),
        r"is not a day or time that there is(?:; .+)?": _("Dagen eller klokkeslettet finnes ikke."),
        r"is an hour that is left out when summer time begins: .+": _(
            "Denne timen finnes ikke natten sommertiden begynner. Skriv tiden med tidssone."
        ),
        r"comes twice that night, when summer time ends: .+": _(
            "Denne timen kommer to ganger natten sommertiden slutter. Skriv tiden med tidssone."
        ),
        r"must be between (\d+) and (\d+)": _("Året må være fra {0} til {1}."),
        r"must be after starts_at": _("Slutten må være etter starten."),
        r"has passed, and this run has not begun: .+": _(
            "Datoene er passert, og kurset har ikke begynt. Gi datoer som kommer, eller avlys."
        ),
        r"must be after its starts_at": _("Samlingen må slutte etter at den har begynt."),
        r"must be at most (\d+) characters": _("Teksten er for lang. Bruk høyst {0} tegn."),
        r"must be one line without tabs": _("Teksten må stå på én linje."),
        r"must hold a letter or a digit": _("Teksten må ha minst én bokstav eller ett tall."),
        r"must not hold control characters or text direction overrides": _(
            "Teksten har skjulte tegn. Skriv den på nytt."
        ),
        r"must not hold more than (\d+) marks on one letter": _("Teksten har for mange tegn over samme bokstav."),
        r"must not hold a national identity number: take it out": _("Teksten har et fødselsnummer. Ta det bort."),
        r'must be a number of study points such as "7.5"': _("Skriv studiepoeng som et tall, slik: 7,5."),
        r"must name each day once": _("Samme dag står to ganger."),
        r"must name each arena once": _("Samme sted står to ganger."),
        r"must be a whole number": _("Skriv et helt tall."),
        r"must be at least (\d+)": _("Tallet må være minst {0}."),
        r"must be at most (\d+)": _("Tallet kan høyst være {0}."),
        r"must be ('.+)": _("Skriv ett av disse: {0}."),
        r"must be 1 to 40 of a-z, .+": _("Bruk bare små bokstaver fra a til z, tall og strek, som mo-i-rana."),
        r"is missing|must have at least 1 item": _("Dette må stå der."),
        r"must have at most (\d+) items": _("Det er for mange. Bruk høyst {0}."),
        r"(\d+) (?:person has|people have) a seat, .+": _(
            "Påmeldte: {0}. Skriv ja i kolonnen confirmed for å avlyse likevel. Da får de beskjed."
        ),
        r"is missing: write here why it is retracted": _("Cellen er tom. Skriv hvorfor det avlyses."),
        r"must be ja \(yes\), or empty": _("Skriv ja, eller la cellen være tom."),
        r"is empty: its course is retracted; retract it too, or leave it out": _(
            "Kurset trekkes, så disse datoene må avlyses også. Skriv hvorfor her, eller ta bort raden."
        ),
        r".+ has no course .+; publish it first": _("Kurset finnes ikke."),
        r"course .+ has no offering .+": _("Datoene finnes ikke."),
        r"this offering is over, .+": _("Disse datoene er over. Send nye datoer under en annen nøkkel."),
        r"this offering is over: .+": _("Disse datoene er over, så de kan ikke avlyses."),
        r"this offering was cancelled; publish a new one under another key": _(
            "Disse datoene er avlyst. Legg inn nye datoer under et annet navn."
        ),
    }
    return [Rule(re.compile(pattern, re.DOTALL), words) for pattern, words in said.items()]


def because(reason: str | None, language: str) -> str:
    """Why something was refused or waits, by the intake's code, and what to do."""
    return _reasons(language).get(reason or "") or _reasons(language)[""]


@cache
def _reasons(language: str) -> dict[str, str]:
    _ = languages.texts(FOLDER, language).gettext
    return {
        "": _("Meldingen kunne ikke brukes. Rett den og send den på nytt."),
        "invalid": _("Et felt er galt eller mangler. Rett det og send meldingen på nytt."),
        "not_json": _("Meldingen er ikke JSON. Send den på nytt som JSON."),
        "not_utf8": _("Meldingen er ikke UTF-8. Send den på nytt som UTF-8."),
        "too_large": _("Meldingen er for stor. Kort den ned og send den på nytt."),
        "empty": _("Meldingen er tom. Et kurs trekkes med en egen melding."),
        "unknown_type": _("Vi kjenner ikke denne typen melding."),
        "unknown_version": _("Vi kjenner ikke denne versjonen av meldingen ennå."),
        "foreign_source": _("Avsenderen i meldingen er en annen enn den som eier emnet i Kafka."),
        "unknown_partner": _("Vi kjenner ikke avsenderen som tilbyder."),
        "unknown_subject": _("Fagområdet finnes ikke. Velg et som finnes, og send meldingen på nytt."),
        "unknown_arena": _("Stedet er ikke et av stedene deres. Velg et av dem, eller be driften legge det til."),
        "meeting_outside": _("En samling ligger utenfor datoene. Flytt samlingen eller datoene, og send dem på nytt."),
        "decide_at_passed": _(
            "Dagen da det skal avgjøres om kurset går, er passert. Sett en som kommer, og send datoene på nytt."
        ),
        "ends_at_passed": _("Datoene er passert, og kurset har ikke begynt. Gi datoer som kommer, eller avlys."),
        "unknown_course": _("Kurset finnes ikke. Send kurset først."),
        "unknown_offering": _("Datoene finnes ikke. Send dem først."),
        "course_withdrawn": _("Kurset er trukket. Send kurset på nytt før datoene."),
        "offering_cancelled": _("Disse datoene er avlyst. Send nye datoer under en annen nøkkel."),
        "offering_over": _("Disse datoene er over. De kan ikke avlyses, og nye datoer må ha en annen nøkkel."),
        "overtaken": _(
            "Dere har sendt noe nyere om det samme imens. Send meldingen på nytt hvis den fortsatt gjelder."
        ),
        "id_reused": _("To ulike meldinger har samme id. Gi hver melding sin egen."),
        "held": _("Meldingen venter på en som kom før den."),
        "behind": _("Meldingen venter på dem som kom før den. De behandles nå, i rekkefølge."),
        "in_hand": _("Meldingen venter på noe annet fra dere, som tas inn nå. Den behandles når det er ferdig."),
        "quarantined": _("Meldingen venter til driften slipper dere fram igjen."),
        "suspended": _("Meldingen venter til driften åpner for dere igjen."),
        "failed": _("Noe gikk galt hos oss. Driften prøver meldingen på nytt."),
    }

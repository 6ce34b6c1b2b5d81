"""What operators decide by command in a partner's stead: of what it has retracted, and of runs that have too few."""

import json

import cyclopts

from kit.operating import me
from services.catalogue import deciding, retracting
from services.catalogue.line import Json, changed, end
from services.catalogue.store import views


def add(partners: cyclopts.App) -> None:
    """Give the group of commands what is decided."""

    @partners.command(name="retractions")
    def _retractions(slug: str | None = None, *, as_json: Json = False) -> None:
        """List what was retracted while people were enrolled, and waits for its provider's decision."""
        rows = end(changed(lambda conn: retracting.waiting(conn, slug)), "They cannot be listed")
        if as_json:
            print(json.dumps(rows, default=str, ensure_ascii=False))
        for row in () if as_json else rows:
            named = f"{row['partner']} {row['code']} {row['key'] or '(the whole course)'}"
            print(f"{named:<50} {row['people']:>5} enrolled  since {row['asked_at']:%Y-%m-%d %H:%M} UTC")

    @partners.command(name="confirm")
    def _confirm(slug: str, code: str, key: str | None = None) -> None:
        """Cancel a run that waits in `partners retractions`, or withdraw a course: who is enrolled is told.

        Example: partners confirm nesna HAV-1 V27
        """
        people = end(changed(lambda conn: deciding.confirm(conn, me(), slug, code, key)), "Nothing was cancelled")
        print(_cancelled(people))

    @partners.command(name="keep")
    def _keep(slug: str, code: str, key: str | None = None) -> None:
        """Take back what waits in `partners retractions`; nothing changes for anybody.

        Example: partners keep nesna HAV-1 V27
        """
        end(changed(lambda conn: deciding.keep(conn, me(), slug, code, key)), "It was not taken back")
        print("It stays as it was; nobody is told.")

    @partners.command(name="on-hold")
    def _on_hold(slug: str | None = None, *, as_json: Json = False) -> None:
        """List the runs that had too few on their day, and wait for their provider to say whether they take place."""
        rows = end(changed(lambda conn: views.on_hold(conn, slug, retracting.MOST_WAITING)), "They cannot be listed")
        if as_json:
            found = [dict(row) | {"title": json.loads(row["title"])} for row in rows]
            print(json.dumps(found, default=str, ensure_ascii=False))
        for row in () if as_json else rows:
            named = f"{row['partner']} {row['code']} {row['key']}"
            few = f"{row['enrolled']} of {row['minimum']}"
            print(f"{named:<50} {few:>9} on its day  decide before {row['starts_at']:%Y-%m-%d %H:%M} UTC")

    @partners.command(name="go-ahead")
    def _go_ahead(slug: str, code: str, key: str) -> None:
        """Say of a run in `partners on-hold` that it takes place: who has a seat or is in line is told.

        Example: partners go-ahead nesna HAV-1 V27
        """
        end(changed(lambda conn: deciding.go_ahead(conn, me(), slug, code, key)), "Nothing was said")
        print("It takes place; who has a seat or is in line is told.")

    @partners.command(name="call-off")
    def _call_off(slug: str, code: str, key: str) -> None:
        """Cancel a run in `partners on-hold`, since too few have come: who is enrolled is told.

        Example: partners call-off nesna HAV-1 V27
        """
        people = end(changed(lambda conn: deciding.call_off(conn, me(), slug, code, key)), "Nothing was cancelled")
        print(_cancelled(people))


def _cancelled(people: int) -> str:
    return f"It is cancelled; {people} {'person is' if people == 1 else 'people are'} told."

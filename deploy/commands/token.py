"""token: access tokens of the development issuer, for anybody one wants to be."""

import re
from dataclasses import replace
from typing import Annotated, Literal

import uvloop
from cyclopts import Parameter

from deploy.local.issuer import LOGINS, Login, tokens
from deploy.local.stack import Stack
from deploy.trouble import Trouble

NAME = re.compile(r"[\w.@+:-]{1,100}")  # the issuer puts it into JSON text, where other signs would not be themselves
SLUG = re.compile(r"[a-z0-9-]{1,60}")
EMPLOYER = re.compile(r"\d{9}")
MOST = 100_000


def token(
    *,
    name: Annotated[str, Parameter(name="--as")],
    role: Literal["learner", "operator"] | None = None,
    partner: str | None = None,
    employer: str | None = None,
    count: int | None = None,
) -> None:
    """Print an access token, with which a program acts for somebody on this stack. It lasts eight hours.

    Examples: `kursnett token --as tor --partner torgar`, `kursnett token --as learner --count 1000`,
    `curl -H "Authorization: Bearer $(kursnett token --as kari)" http://localhost:8080/api/enrolment/v1/me/enrolments`

    Parameters
    ----------
    name
        Whose it is: any log-in name. One of the demo data (kari, torgar, drift) has its role and partner by itself.
    role
        What the person is; a learner if it is not said.
    partner
        The partner that the person acts for, by its slug, as in `kursnett partners list`.
    employer
        The employer that the person acts for, by its organisation number.
    count
        Print so many, one a line, for `learner-1`, `learner-2` and so on, after the name given.
    """
    for what, value, form in (("--as", name, NAME), ("--partner", partner, SLUG), ("--employer", employer, EMPLOYER)):
        if value is not None and not form.fullmatch(value):
            raise Trouble(f"{what} is {value!r}, which does not look right.", "See: kursnett token --help")
    if count is not None and not 1 <= count <= MOST:
        raise Trouble(f"--count is {count}.", f"Ask for 1 to {MOST} tokens at once.")
    known = {login.username: login for login in LOGINS.values()}
    login = known.get(name, Login(name, name))
    given = {"role": role, "partner": partner, "employer": employer}
    login = replace(login, **{key: value for key, value in given.items() if value is not None})
    people = [login] if count is None else [replace(login, username=f"{name}-{n}") for n in range(1, count + 1)]
    print("\n".join(uvloop.run(tokens(Stack.here().places, people))))

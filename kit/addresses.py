"""Mail addresses as people write them; the same everywhere where one is asked for."""

import functools
import re
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_SHORT = 200  # the whole may have 254; what comes near is read with care


def usual(text: str, *, smtputf8: bool, test_domains: bool = False) -> str:
    """An address in its usual form. Raises EmailNotValidError.

    The library takes most of its time for the domain, of which there are few: each is read once.
    """
    local, _, domain = text.rpartition("@")
    if len(text) <= _SHORT and domain.isascii() and _LOCAL.fullmatch(local):
        return f"{local}@{_domain(domain, test_domains)}"
    found = validate_email(text, check_deliverability=False, allow_smtputf8=smtputf8, test_environment=test_domains)
    return found.ascii_email or found.normalized


@functools.lru_cache(maxsize=1000)
def _domain(domain: str, test_domains: bool) -> str:
    return validate_email(f"a@{domain}", check_deliverability=False, test_environment=test_domains).ascii_domain


def an_address(text: str) -> str:
    """A mail address in its usual form, in ASCII: a domain with other letters as xn--…, as every mail server knows it.

    Other letters before the @ are refused: few servers take them, and ours would not. DNS is not asked: it may be away,
    and the mail tells in the end.
    """
    try:
        return usual(text, smtputf8=False)
    except EmailNotValidError:
        raise ValueError("must be a mail address such as kari@example.no") from None


Address = Annotated[str, Field(max_length=320), AfterValidator(an_address)]

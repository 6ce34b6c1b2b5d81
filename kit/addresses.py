"""Mail addresses as people write them; the same everywhere where one is asked for."""

from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field


def an_address(text: str) -> str:
    """A mail address in its usual form, in ASCII: a domain with other letters as xn--…, as every mail server knows it.

    Other letters before the @ are refused: few servers take them, and ours would not. DNS is not asked: it may be away,
    and the mail tells in the end.
    """
    try:
        found = validate_email(text, check_deliverability=False, allow_smtputf8=False)
        return found.ascii_email or found.normalized
    except EmailNotValidError:
        raise ValueError("must be a mail address such as kari@example.no") from None


Address = Annotated[str, Field(max_length=320), AfterValidator(an_address)]

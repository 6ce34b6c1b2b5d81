"""Mail addresses as people write them; the same everywhere where one is asked for."""

from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field


def an_address(text: str) -> str:
    """A mail address in its usual form. DNS is not asked: it may be away, and the mail tells in the end."""
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError:
        raise ValueError("must be a mail address such as kari@example.no") from None


Address = Annotated[str, Field(max_length=320), AfterValidator(an_address)]

"""What is in a sealed letter that says how to reach somebody: a learner, or a partner's office."""

from typing import Annotated

from email_validator import EmailNotValidError
from pydantic import BaseModel, ConfigDict, Field, field_validator

from contracts.fields import Language, Line
from kit import addresses
from kit.phones import Phone


class Contact(BaseModel):
    """What is in it. An office has an address and a language, and nothing else."""

    model_config = ConfigDict(hide_input_in_errors=True)

    email: str
    name: Line | None = None
    language: Language = "nb"
    login: Annotated[str, Field(max_length=64)] | None = None
    phone: Phone | None = None

    @field_validator("email")
    @classmethod
    def one_address(cls, value: str) -> str:
        try:
            # `.test` is let in: the door decides which domains a learner may use, and this is not the door.
            # One without an ASCII form is told as a mail that could not go.
            return addresses.usual(value, smtputf8=True, test_domains=True)
        except EmailNotValidError:
            raise ValueError("must be one address") from None

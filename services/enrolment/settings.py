"""What enrolment needs to know beside what every service does."""

from pydantic import Field, field_validator

from kit import sealing
from kit.settings import Settings


class EnrolmentSettings(Settings):
    database_name: str = Field("enrolment", description="the database of this service")
    database_user: str = Field("enrolment", description="the role that owns it")
    contact_public_key: str = Field(
        description="the notifier's public keys (a JWK set): contacts are sealed for the first"
    )

    most_live_enrolments: int = Field(
        10, ge=1, description="how many seats and places in line one learner may have at once: seats are for many"
    )
    requests_per_minute: int = Field(
        120, ge=1, description="how often one person may change something: a program that grabs seats asks more often"
    )

    @field_validator("contact_public_key")
    @classmethod
    def can_seal(cls, value: str) -> str:
        """A key that will not do is found at start, not at the first learner."""
        try:
            sealing.seal(value, {})
        except sealing.Unsealable:
            raise ValueError("must be a JWK set with a public EC key, as `kit.sealing.generate` makes") from None
        return value

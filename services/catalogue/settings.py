"""What the catalogue needs to know beside what every service does."""

from typing import Literal

from pydantic import Field, field_validator

from kit import sealing
from kit.settings import Settings


class CatalogueSettings(Settings):
    database_name: str = Field("catalogue", description="the database of this service")
    database_user: str = Field("catalogue", description="the role that owns it")
    kafka_partners_bootstrap: str = Field(
        "",
        pattern=r"^([^\s:,]+:\d{1,5}(,[^\s:,]+:\d{1,5})*)?$",
        description="where partners reach Kafka, host:port with commas between; empty: they have no listener",
    )
    kafka_partners_security: Literal["SASL_SSL", "SASL_PLAINTEXT"] = Field(
        "SASL_SSL", description="what partners' clients must speak there; SASL_PLAINTEXT never leaves one machine"
    )
    contact_public_key: str = Field(
        "",
        description="the public JWK set that addresses of partners' offices are sealed with, for the notifier alone; "
        "empty: none can be given",
    )
    contact_email: str = Field(
        "kontakt@kursnett.example", description="whom other systems write to about the courses they read over OOAPI"
    )
    quarantine_refused: int = Field(
        20,
        ge=1,
        description="so many refused records keep a partner out: its program has gone wrong, and it alone waits",
    )
    quarantine_of: int = Field(
        50, ge=1, le=1000, description="of so many of its last records: now and then one is refused to everybody"
    )

    @field_validator("contact_public_key")
    @classmethod
    def can_seal(cls, value: str) -> str:
        """A key that will not do is found at start, not at the first address."""
        try:
            if value:
                sealing.check_public(value)
        except sealing.Unsealable:
            raise ValueError("must be a JWK set with a public EC key, as `kit.sealing.generate` makes") from None
        return value

"""What the catalogue needs to know beside what every service does."""

from typing import Literal

from pydantic import Field

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

"""What the catalogue needs to know beside what every service does."""

from pydantic import Field

from kit.settings import Settings


class CatalogueSettings(Settings):
    database_name: str = Field("catalogue", description="the database of this service")
    database_user: str = Field("catalogue", description="the role that owns it")

"""Every SQL statement of the catalogue: one function, one statement. `partners`, `courses`, `search`."""

import asyncpg

Row = asyncpg.Record

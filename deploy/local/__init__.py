"""The whole stack on this machine, from packages alone: no Docker, no Java, no PostgreSQL and no root needed."""

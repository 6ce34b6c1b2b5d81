"""The arenas as people call them, the same in every language; a new one is shown by its slug until it has letters."""

NAMES = {
    "bronnoysund": "Brønnøysund",
    "mo-i-rana": "Mo i Rana",
    "mosjoen": "Mosjøen",
    "sandnessjoen": "Sandnessjøen",
}
ONLINE = {"nb": "På nett", "nn": "På nett", "en": "Online"}


def place_name(arena: str, language: str) -> str:
    """The name of an arena's slug in one of the languages of `ONLINE`; in Bokmål for any other."""
    if arena == "online":
        return ONLINE.get(language, ONLINE["nb"])
    return NAMES.get(arena) or arena.replace("-", " ").capitalize()

"""Finds every text of the pages and keeps the files of translations in step: `python -m deploy.texts`.

The texts stand in Bokmål where they are used. A folder of pages has `locale/nn.po` and `locale/en.po`; a text that was
changed or is new stands there empty, and a test fails until somebody has translated it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT / "kit" / "pages"
FOLDERS = (SHARED, *(ROOT / "services" / name / "pages" for name in ("catalogue", "enrolment", "notifier")))
TRANSLATED = ("nn", "en")
METHODS = [("**.py", "python"), ("**.html", "jinja2")]
OPTIONS = {"**.html": {"trimmed": "true", "silent": "false"}}


def used(folder: Path) -> Catalog:
    """Every text that the pages of a folder show: of a service, its code too; the kit's are its own."""
    where = folder if folder == SHARED else folder.parent
    found = Catalog()
    for _, _, text, _, _ in extract_from_dir(
        where, METHODS, OPTIONS, directory_filter=lambda name: "node_modules" not in str(name)
    ):
        found.add(text)
    if folder != SHARED:  # what the kit has translated is translated for all
        for message in used(SHARED):
            if message.id:
                found.delete(message.id)
    return found


def translated(folder: Path, language: str) -> Catalog:
    path = folder / "locale" / f"{language}.po"
    if not path.is_file():
        return Catalog(locale=language)
    with path.open("rb") as file:
        return read_po(file, locale=language)


def missing() -> Iterator[str]:
    """`folder, language: text` for each text without a translation, and for each translation that nothing uses."""
    for folder in FOLDERS:
        texts = used(folder)
        for language in TRANSLATED:
            kept = translated(folder, language)
            where = f"{folder.relative_to(ROOT)}, {language}"
            for message in texts:
                if message.id and not _whole(kept, message.id):
                    yield f"{where}: {message.id!r} is not translated"
            for message in kept:
                if message.id and message.id not in texts:
                    yield f"{where}: {message.id!r} is used nowhere"


def _whole(kept: Catalog, key: object) -> bool:
    message = kept.get(key)  # type: ignore[arg-type]  # a text, or a pair of one and many
    if message is None or message.fuzzy:
        return False
    strings = message.string if isinstance(message.string, tuple | list) else [message.string]
    return all(strings)


def update() -> None:
    """Write every file anew: texts in use with their translations, in order; the rest is dropped."""
    for folder in FOLDERS:
        texts = used(folder)
        if not len(texts):
            continue
        for language in TRANSLATED:
            kept = translated(folder, language)
            fresh = Catalog(locale=language, fuzzy=False)
            for message in texts:
                if message.id:
                    before = kept.get(message.id)
                    fresh.add(message.id, before.string if before else None, flags=message.flags)
            path = folder / "locale" / f"{language}.po"
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                write_po(file, fresh, sort_output=True, omit_header=True, no_location=True, width=100)


def main() -> int:
    update()
    left = list(missing())
    print("\n".join(left) or "every text is translated")
    return bool(left)


if __name__ == "__main__":
    sys.exit(main())

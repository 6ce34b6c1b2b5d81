"""Reads a partner's file of courses: the habits of Norwegian spreadsheets, and every mistake by its row and column."""

import codecs
import csv
import difflib
import io
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from contracts.envelope import words_of
from contracts.fields import Code
from contracts.partner import CourseText, OfferingDates, OfferingRetracted

OF_TEXT = ("title", "summary", "prerequisites")
TEXTS = tuple(f"{text}_{language}" for text in OF_TEXT for language in ("nb", "nn", "en"))
TITLES = TEXTS[:3]
OF_COURSE = (*TEXTS, "subjects", "studiepoeng", "language", "level", "delivery_mode", "price_ore", "funded_by")
OF_RUN = ("offering", "starts_at", "ends_at", "arena", "capacity")
ENDING = ("retracted", "confirmed")
COLUMNS = ("code", *OF_COURSE, *OF_RUN, *ENDING)
YES = ("ja", "yes", "true", "sann")  # the last is what Excel in Norway makes of the one before
MOST_ROWS = 5_000
MOST_MISTAKES = 200  # who has more has one mistake many times
MOST_COLUMNS = 100  # names beyond are not looked at one by one: everybody would wait for that
# By their names in Python; others decode to what nobody has written, or take long about it.
CHARSETS = ("utf-8", "cp1252", "iso8859-1", "iso8859-15", "ascii")
YEARS = range(2000, 2101)  # what the models take, and no more than a day beyond
OSLO = ZoneInfo("Europe/Oslo")

_NORWEGIAN = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?:\s+(?:kl\.?\s*)?(\d{1,2})[.:](\d{2})(?:[.:]00)?)?")
_EXCELS_OWN = re.compile(r'\A"?sep=[;\t]"?\r?\n', re.IGNORECASE)  # a first line that it shows to nobody
_TABS = re.compile(r"[^;\n]*\t[^;\n]*\n")
_CODE = TypeAdapter(Code)
# æ, ø and å, small or large, in UTF-8; in windows-1252 these are pairs of signs that stand in no word.
_UTF_8_LETTERS = re.compile(rb"\xc3[\xa5\xa6\xb8\x85\x86\x98]")


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong, and where: the header is row 1. `column` is empty for the file or row as a whole."""

    row: int
    column: str
    detail: str


class Unreadable(Exception):
    """The file has mistakes; none of it may be taken."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(f"{len(mistakes)} mistakes")
        self.mistakes = mistakes[:MOST_MISTAKES]


@dataclass(slots=True)
class Course:
    row: int
    code: str
    text: CourseText


@dataclass(slots=True)
class Run:
    """`rows` has the row of each arena."""

    row: int
    code: str
    key: str
    dates: OfferingDates
    rows: dict[str, int]


@dataclass(slots=True)
class Retraction:
    """Of a run, or of a whole course where `key` is none."""

    row: int
    code: str
    key: str | None
    reason: str
    confirmed: bool


@dataclass(slots=True)
class Sheet:
    """What a file says, each course and run once, in the order of their codes; what it retracts is not among them.

    `columns`: those that it has.
    """

    columns: frozenset[str] = frozenset()
    courses: list[Course] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    retractions: list[Retraction] = field(default_factory=list)


@dataclass(slots=True)
class _Row:
    number: int
    cells: dict[str, str]


def read(content: bytes, charset: str | None = None) -> Sheet:
    """The sheet in a CSV file. Raises Unreadable with every mistake that can be seen without the catalogue."""
    rows = _rows(_decoded(content, charset))
    mistakes: list[Mistake] = []
    by_code: dict[str, list[_Row]] = {}
    for row in rows:
        mistakes += _formulas(row)
        by_code.setdefault(row.cells["code"], []).append(row)
    sheet = Sheet(frozenset(rows[0].cells))
    for code in sorted(by_code):
        try:
            _CODE.validate_python(code)
        except ValidationError as error:
            mistakes.append(Mistake(by_code[code][0].number, "code", words_of(error.errors()[0])))
            continue
        _read_course(sheet, code, by_code[code], mistakes)
    if mistakes:
        raise Unreadable(sorted(mistakes, key=lambda one: (one.row, one.column)))
    return sheet


def _read_course(sheet: Sheet, code: str, rows: list[_Row], mistakes: list[Mistake]) -> None:
    """Put into the sheet what these rows, all of one course, say of it and its runs."""
    runs: dict[str, list[_Row]] = {}
    of_course = []
    for row in rows:
        if any(row.cells.get(name) for name in OF_RUN):
            runs.setdefault(row.cells.get("offering", ""), []).append(row)
        else:
            of_course.append(row)
    ending = [key for key, its in runs.items() if any(row.cells.get(name) for row in its for name in ENDING)]
    is_over = any(row.cells.get(name) for row in of_course for name in ENDING)
    if is_over:
        sheet.retractions += _retraction(code, None, of_course, mistakes)
        words = "is empty: its course is retracted; retract it too, or leave it out"
        mistakes += [Mistake(runs[key][0].number, "retracted", words) for key in runs.keys() - set(ending)]
    elif len(ending) < len(runs) or of_course or any(row.cells.get(name) for row in rows for name in OF_COURSE):
        course = _course(code, rows, mistakes)
        sheet.courses += [] if course is None else [course]
    for key in sorted(runs):
        if key in ending:
            sheet.retractions += _retraction(code, key, runs[key], mistakes)
        elif not is_over:
            run = _run(code, key, runs[key], mistakes)
            sheet.runs += [] if run is None else [run]


def _retraction(code: str, key: str | None, rows: list[_Row], mistakes: list[Mistake]) -> list[Retraction]:
    """What retracts a run, or with no `key` a course; none when it has a mistake. Dates that stand there still are
    those of what is retracted."""
    before, first = len(mistakes), rows[0]
    cells = _agreed(rows, ENDING, "course" if key is None else "offering", mistakes)
    confirmed = cells.get("confirmed", "").lower()
    if "retracted" not in cells:
        mistakes.append(Mistake(first.number, "retracted", "is missing: write here why it is retracted"))
    if confirmed and confirmed not in YES:
        mistakes.append(Mistake(first.number, "confirmed", "must be ja (yes), or empty"))
    if key == "":
        mistakes.append(Mistake(first.number, "offering", "is missing: a row with a run needs it"))
    if len(mistakes) > before:
        return []
    try:
        said = OfferingRetracted(
            course_code=code, key=key or code, reason=cells["retracted"], confirmed=confirmed in YES
        )
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            column = "offering" if problem["loc"] == ("key",) else "retracted"
            mistakes.append(Mistake(first.number, column, words_of(problem)))
        return []
    return [Retraction(first.number, code, key, said.reason, said.confirmed)]


def _decoded(content: bytes, charset: str | None) -> str:
    """UTF-8, with or without its mark, else what Excel in Norway writes (cp1252), unless the sender says which."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable([Mistake(1, "", "is UTF-16: save it as CSV UTF-8")])
    names = [charset] if charset else ["utf-8", "cp1252"]
    refused = Mistake(1, "", "cannot be read")
    for name in names:
        known = _codec(name)
        if known is None:
            refused = Mistake(1, "", "has a charset that is not known: use utf-8 or windows-1252")
            continue
        try:
            text = content.decode("utf-8-sig" if known == "utf-8" else known)
        except UnicodeDecodeError as error:
            row = content.count(b"\n", 0, error.start) + 1
            refused = Mistake(row, "", f"is not {name}: save it as CSV UTF-8")
            if _UTF_8_LETTERS.search(content):
                break  # cut short, or put together of two files: Excel has not written this
        else:
            if "\0" not in text:
                return text
            refused = Mistake(text.count("\n", 0, text.index("\0")) + 1, "", "holds a NUL: is it a CSV file?")
    raise Unreadable([refused])


def _codec(charset: str) -> str | None:
    """What Python calls this charset; none for one that no file is taken in."""
    try:
        name = codecs.lookup(charset).name
    except LookupError:
        return None
    return name if name in CHARSETS else None


def _rows(text: str) -> list[_Row]:
    """The rows below the header that are not empty, numbered as a spreadsheet shows them: a cell may hold lines."""
    text = _EXCELS_OWN.sub("", text)
    between = "\t" if _TABS.match(text) else ";"
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    rows: list[list[str]] = []
    try:
        rows += reader
    except csv.Error as error:
        raise Unreadable([Mistake(len(rows) + 1, "", f"is not CSV: {error}")]) from None
    # A spreadsheet also writes columns that are empty by now.
    width = max((at for row in rows for at, cell in enumerate(row, 1) if cell.strip()), default=0)
    rows = [row[:width] for row in rows]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if len(header) > MOST_COLUMNS:
        words = f"has {len(header)} columns; there are {len(COLUMNS)} that a file may have"
        raise Unreadable([Mistake(1, "", words)])
    # Excel ends sixteen rows behind their last cell that is not empty in all of them. One without its end is cut off.
    padded = len(rows) if text.endswith(("\n", "\r")) else len(rows) - 1
    whole = [line + [""] * (len(header) - len(line)) for line in rows[1:padded]] + rows[max(padded, 1) :]
    lines = [(number, line) for number, line in enumerate(whole, 2) if any(cell.strip() for cell in line)]
    if len(header) == 1 and "," in header[0]:
        raise Unreadable([Mistake(1, "", "has commas between its columns: use semicolons")])
    wrong = _missing(header)
    wrong += [Mistake(1, name, _strange(name)) for name in header if name not in COLUMNS]
    wrong += [Mistake(1, name, "stands twice in the header") for name in {n for n in header if header.count(n) > 1}]
    if len(lines) > MOST_ROWS:
        wrong.append(Mistake(MOST_ROWS + 2, "", f"is one too many: a file may have {MOST_ROWS} rows"))
    if not lines:
        wrong.append(Mistake(1, "", "is all there is: no row follows the header"))
    wrong += [
        Mistake(number, "", f"has {len(line)} cells; the header has {len(header)}")
        for number, line in lines[:MOST_ROWS]
        if len(line) != len(header)
    ]
    if wrong:
        raise Unreadable(wrong)
    return [_Row(number, dict(zip(header, (cell.strip() for cell in line), strict=True))) for number, line in lines]


def _missing(header: list[str]) -> list[Mistake]:
    """What a header must have: a code and a title in some language; a file with runs, all that a run needs."""
    wrong = [] if "code" in header else [Mistake(1, "code", "is missing from the header")]
    if not set(TITLES) & set(header):
        wrong.append(
            Mistake(1, "title_nb", "is missing from the header, as are title_nn and title_en: one must be there")
        )
    if set(OF_RUN) & set(header):
        words = "is missing from the header: a file with offerings needs it"
        wrong += [Mistake(1, name, words) for name in OF_RUN if name not in header]
    return wrong


def _strange(name: str) -> str:
    near = difflib.get_close_matches(name, COLUMNS, 1, 0.7)
    return "is not a column; " + (f"is {near[0]} meant?" if near else f"there are {', '.join(COLUMNS)}")


def _formulas(row: _Row) -> list[Mistake]:
    """A cell that a spreadsheet would run, here or where the file came from."""
    return [
        Mistake(row.number, name, "must not begin with = + - or @")
        for name, cell in row.cells.items()
        if cell[:1] in ("=", "+", "-", "@")
    ]


def _agreed(rows: list[_Row], names: tuple[str, ...], what: str, mistakes: list[Mistake]) -> dict[str, str]:
    """What the rows say together: a cell may be left empty in later rows, but not say something else."""
    found: dict[str, tuple[int, str]] = {}
    for row in rows:
        for name in names:
            cell = row.cells.get(name, "")
            if not cell:
                continue
            number, first = found.setdefault(name, (row.number, cell))
            if first != cell:
                mistakes.append(Mistake(row.number, name, f"is another than in row {number}, for the same {what}"))
    return {name: cell for name, (_, cell) in found.items()}


def _course(code: str, rows: list[_Row], mistakes: list[Mistake]) -> Course | None:
    cells = _agreed(rows, OF_COURSE, "course", mistakes)
    body: dict[str, object] = {}
    for text in OF_TEXT:
        body[text] = {n: cells[f"{text}_{n}"] for n in ("nb", "nn", "en") if f"{text}_{n}" in cells}
    body["subjects"] = re.findall(r"[^\s,]+", cells.get("subjects", ""))
    if "studiepoeng" in cells:
        body["studiepoeng"] = cells["studiepoeng"].replace(",", ".")
    if "level" in cells:
        body["level"] = cells["level"].replace(",", ".")  # 5.1 is a day in January to Excel
    body |= {name: cells[name] for name in ("language", "delivery_mode", "funded_by") if name in cells}
    if "price_ore" in cells:
        body["price_ore"] = _whole(cells["price_ore"])
    try:
        return Course(rows[0].number, code, CourseText.model_validate(body))
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            place = [part for part in problem["loc"] if isinstance(part, str) and part != "[key]"]
            column = "_".join(place) if "_".join(place) in OF_COURSE else place[0]
            column = next(name for name in TITLES if name in rows[0].cells) if column == "title" else column
            mistakes.append(Mistake(rows[0].number, column, words_of(problem)))
        return None


def _run(code: str, key: str, rows: list[_Row], mistakes: list[Mistake]) -> Run | None:
    before = len(mistakes)
    first = rows[0]
    mistakes += [
        Mistake(row.number, name, "is missing: a row with a run needs it")
        for row in rows
        for name in ("offering", "arena", "capacity")
        if not row.cells.get(name)
    ]
    cells = _agreed(rows, ("starts_at", "ends_at"), "offering", mistakes)
    body: dict[str, object] = {}
    for name in ("starts_at", "ends_at"):
        if name not in cells:
            mistakes.append(Mistake(first.number, name, "is missing: a row with a run needs it"))
            continue
        try:
            body[name] = instant(cells[name], late=name == "ends_at")
        except ValueError as error:
            mistakes.append(Mistake(first.number, name, str(error)))
    by_arena: dict[str, int] = {}
    for row in rows:
        arena = row.cells.get("arena", "")
        if arena in by_arena:
            mistakes.append(Mistake(row.number, "arena", f"stands in row {by_arena[arena]} already, for this offering"))
        by_arena.setdefault(arena, row.number)
    body["places"] = [
        {"arena": row.cells.get("arena"), "capacity": _whole(row.cells.get("capacity", ""))} for row in rows
    ]
    if len(mistakes) > before:
        return None
    try:
        _CODE.validate_python(key)
        return Run(first.number, code, key, OfferingDates.model_validate(body), by_arena)
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            place = problem["loc"]
            row = rows[place[1]] if len(place) > 1 and place[0] == "places" and isinstance(place[1], int) else first
            column = "arena" if place == ("places",) else str(place[-1]) if place else "offering"
            mistakes.append(Mistake(row.number, column, words_of(problem)))
        return None


def _whole(cell: str) -> int | str:
    """A whole number, or what stands there instead, for the model to refuse."""
    plain = cell.replace(" ", "").replace("\u00a0", "")
    return int(plain) if plain.isascii() and plain.isdecimal() and len(plain) < 10 else cell


def instant(cell: str, late: bool = False) -> str:
    """A time as the models want it, from ISO 8601 or as Norwegians write it; without a zone it is Oslo's.

    A day alone is its beginning, or its last minute when `late`. Raises ValueError with words for the partner.
    """
    day, clock = _spelled(cell, late)
    if day.year not in YEARS:  # at the ends of the calendar no zone can be told
        raise ValueError(f"must be between {YEARS[0]} and {YEARS[-1]}")
    if isinstance(day, datetime):
        return day.astimezone(UTC).isoformat()
    wall = datetime.combine(day, clock)
    first, second = (wall.replace(tzinfo=OSLO, fold=fold) for fold in (0, 1))
    if first.astimezone(UTC).astimezone(OSLO).replace(tzinfo=None) != wall:
        raise ValueError("is an hour that is left out when summer time begins: write it with its zone")
    if first.utcoffset() != second.utcoffset():
        raise ValueError("comes twice that night, when summer time ends: write it with its zone")
    return first.astimezone(UTC).isoformat()


def _spelled(cell: str, late: bool) -> tuple[date | datetime, time]:
    whole = time(23, 59) if late else time(0)
    if found := _NORWEGIAN.fullmatch(cell):
        day, month, year, hour, minute = found.groups()
        try:
            return date(int(year), int(month), int(day)), time(int(hour), int(minute)) if hour else whole
        except ValueError:
            raise ValueError("is not a day or time that there is") from None
    try:
        if re.fullmatch(r"\d{4}(-?)\d{2}\1\d{2}", cell):
            return date.fromisoformat(cell), whole
        at = datetime.fromisoformat(cell)
    except ValueError:
        raise ValueError("must be a time such as 02.03.2026 18:00 or 2026-03-02T18:00:00+01:00") from None
    return (at, whole) if at.tzinfo is not None else (at.date(), at.time())

"""A partner's file is read as Norwegian spreadsheets write it, and each mistake is told by row and column."""

import time
from datetime import UTC, datetime

import pytest

from services.catalogue.imports import refused
from services.catalogue.sheet import COLUMNS, Mistake, Retraction, Unreadable, instant, read

HEADER = "code;title_nb;summary_nb;subjects;studiepoeng;language;offering;starts_at;ends_at;arena;capacity"
FIRST = "HAV-1;Havbruk på norsk;Om laks;havbruk, bygg;7,5;nb;V27;01.02.2027 18:00;01.02.2027 20.30;online;20"


def sheet(*rows: str, header: str = HEADER) -> bytes:
    return "\r\n".join((header, *rows, "")).encode()


def mistakes(content: bytes, charset: str | None = None) -> list[Mistake]:
    with pytest.raises(Unreadable) as refused:
        read(content, charset)
    return refused.value.mistakes


@pytest.mark.parametrize(
    ("encoding", "charset"), [("utf-8", None), ("utf-8-sig", None), ("cp1252", None), ("cp1252", "windows-1252")]
)
def test_a_file_is_read_however_excel_has_written_it(encoding: str, charset: str | None) -> None:
    second = "HAV-1;;;;;;V27;;;bronnoysund;5"
    found = read(sheet(FIRST, second).decode().encode(encoding), charset)
    [course], [run] = found.courses, found.runs
    assert course.text.title == {"nb": "Havbruk på norsk"}
    assert (course.text.studiepoeng, course.text.subjects) == ("7.5", ["havbruk", "bygg"])
    assert run.dates.starts_at == datetime(2027, 2, 1, 17, tzinfo=UTC)
    assert run.dates.ends_at == datetime(2027, 2, 1, 19, 30, tzinfo=UTC)
    assert [(place.arena, place.capacity) for place in run.dates.places] == [("online", 20), ("bronnoysund", 5)]
    assert run.rows == {"online": 2, "bronnoysund": 3}


@pytest.mark.parametrize("first", ["sep=;\r\n", '"SEP=;"\n', "sep=\t\n", ""])
def test_a_line_of_excels_own_is_no_row_and_tabs_are_as_good(first: str) -> None:
    lines = sheet(FIRST).decode()
    between = lines.replace(";", "\t") if "\t" in first or not first else lines
    read_as = read((first + between).encode())
    assert (read_as.courses, read_as.runs) == (read(lines.encode()).courses, read(lines.encode()).runs)
    [wrong] = mistakes((first + between.replace("online", "a b")).encode())
    assert (wrong.row, wrong.column) == (2, "arena"), "rows are counted as Excel shows them"


def test_a_file_that_is_nearly_utf_8_is_not_read_as_what_it_is_not() -> None:
    """Read as Excel's, each of its titles would be published as `KjÃ¸ring pÃ¥ glatta`."""
    whole = sheet("A;Kjøring på glatta;;;;;;;;;", "B;Båt;;;;;;;;;")
    for broken, row in ((whole.replace("Båt".encode(), b"B\xe5t"), 3), (whole[:-13], 3)):
        [found] = mistakes(broken)
        assert (found.row, found.detail) == (row, "is not utf-8: save it as CSV UTF-8")
    assert read(whole.decode().encode("cp1252")).courses[0].text.title == {"nb": "Kjøring på glatta"}


def test_who_pays_is_a_column_that_may_be_there() -> None:
    header = "code;title_nb;price_ore;funded_by;prerequisites_nb;prerequisites_en"
    [course] = read(sheet("A;T;450000;NAV og fylket;Fagbrev;A trade certificate", header=header)).courses
    assert (course.text.price_ore, course.text.funded_by) == (450_000, "NAV og fylket")
    assert course.text.prerequisites == {"nb": "Fagbrev", "en": "A trade certificate"}


def test_what_spreadsheets_add_of_their_own_says_nothing() -> None:
    """Columns that were used once, a comma in a number, seconds in a time, a comma that was left behind."""
    header = "code;title_nb;level;subjects;offering;starts_at;ends_at;arena;capacity;;;"
    row = "A;T;5,1;bygg, ;V;01.02.2027 18:00:00;01.02.2027 20:30;online;20;;;"
    found = read(sheet(row, "B;T;;;;;;;;; ;", header=header))
    assert (found.courses[0].text.level, found.courses[0].text.subjects) == ("5.1", ["bygg"])
    assert found.runs[0].dates.starts_at == datetime(2027, 2, 1, 17, tzinfo=UTC)
    [strange] = mistakes(sheet(row[:-1] + "x", header=header))[:1]
    assert (strange.row, strange.column) == (1, ""), "a cell below no name is something that was meant to be said"


def test_a_row_may_end_where_the_rest_of_it_is_empty() -> None:
    """Excel writes no semicolons behind the last cell of sixteen rows, where all of them are empty from there on."""
    rows = [f"A-{n};T;bygg;;" for n in range(15)] + [f"B-{n};T;bygg" for n in range(16)] + ["C;T;;slutt;ja"]
    found = read(sheet(*rows, header="code;title_nb;subjects;retracted;confirmed"))
    assert len(found.courses) == 31
    assert {(one.text.title["nb"], *one.text.subjects) for one in found.courses} == {("T", "bygg")}
    assert found.retractions == [Retraction(33, "C", None, "slutt", True)]


def test_a_file_that_is_cut_off_in_a_row_is_refused() -> None:
    """Empty cells take away what was there: what is missing of its end must not be read as those."""
    whole = "code;title_nb;subjects\nA;T;bygg\nB;Havbruk;"
    assert len(read(f"{whole}\n".encode()).courses) == 2
    [cut] = mistakes("\n".join(whole.splitlines()).removesuffix(";").encode())
    assert (cut.row, cut.detail) == (3, "has 2 cells; the header has 3")


def test_a_course_may_come_without_a_run_and_rows_in_any_order() -> None:
    found = read(sheet("B;Bygg;;;;;;;;;", FIRST, "A;Alt;;;;;;;;;", "HAV-1;;;;;;H27;2027-09-01;2027-09-02;online;1"))
    assert [one.code for one in found.courses] == ["A", "B", "HAV-1"]
    assert [(one.key, one.dates.starts_at.isoformat()) for one in found.runs] == [
        ("H27", "2027-08-31T22:00:00+00:00"),
        ("V27", "2027-02-01T17:00:00+00:00"),
    ]


@pytest.mark.parametrize(
    ("rows", "row", "column", "says"),
    [
        (["HAV 1;Tittel;;;;;;;;;"], 2, "code", "must be 1 to 60 of A-Z a-z 0-9"),
        (["A;;;;;;;;;;"], 2, "title_nb", "at least 1 item"),
        (["A;=1+1;;;;;;;;;"], 2, "title_nb", "must not begin with"),
        (["A;T;;;syv;;;;;;"], 2, "studiepoeng", "such as"),
        (["A;T;;;;tysk;;;;;"], 2, "language", "'nb'"),
        (["A;T;;;;;V;01.02.2027 18:00;01.02.2027 17:00;online;1"], 2, "ends_at", "must be after starts_at"),
        (["A;T;;;;;V;01.13.2027;02.02.2027;online;1"], 2, "starts_at", "is not a day"),
        (["A;T;;;;;V;i morgen;02.02.2027;online;1"], 2, "starts_at", "must be a time such as"),
        (["A;T;;;;;V;01.01.0001;02.02.2027;online;1"], 2, "starts_at", "must be between 2000 and 2100"),
        (["A;T;;;;;V;0001-01-01T00:00+01:00;02.02.2027;online;1"], 2, "starts_at", "must be between 2000 and 2100"),
        (["A;T;;;;;V;01.02.2027;9999-12-31T23:59-05:00;online;1"], 2, "ends_at", "must be between 2000 and 2100"),
        (["A;T;;;;;V;28.03.2027 02:30;29.03.2027;online;1"], 2, "starts_at", "left out"),
        (["A;T;;;;;V;31.10.2027 02:30;01.11.2027;online;1"], 2, "starts_at", "comes twice"),
        (["A;T;;;;;V;01.02.2027;02.02.2027;online;mange"], 2, "capacity", "whole number"),
        (["A;T;;;;;V;01.02.2027;02.02.2027;Mo i Rana;1"], 2, "arena", "must be 1 to 40 of a-z, 0-9 and hyphens"),
        (["A;T;;;;;V;01.02.2027;02.02.2027;;1"], 2, "arena", "is missing"),
        (["A;T;;;;;;01.02.2027;02.02.2027;online;1"], 2, "offering", "is missing"),
        (["A;T;;;;;V;01.02.2027;02.02.2027;online;1", "A;;;;;;V;;;online;2"], 3, "arena", "row 2 already"),
        (["A;T;;;;;V;01.02.2027;02.02.2027;online;1", "A;U;;;;;V;;;mosjoen;2"], 3, "title_nb", "another than in row 2"),
        (["A;T;;;;;V;01.02.2027;02.02.2027;online;1", "A;;;;;;V;03.02.2027;;mosjoen;2"], 3, "starts_at", "in row 2"),
        (["A;T;;;;;V;01.02.2027;02.02.2027;online"], 2, "capacity", "is missing"),
        (['A;"T;;;;;;;;;'], 2, "", "is not CSV"),
        (["A;T\0;;;;;;;;;"], 2, "", "NUL"),
        ([], 1, "", "no row follows"),
    ],
)
def test_a_mistake_is_told_by_its_place(rows: list[str], row: int, column: str, says: str) -> None:
    [first, *_] = mistakes(sheet(*rows))
    assert (first.row, first.column) == (row, column)
    assert says in first.detail


def test_a_mistake_stands_in_a_column_that_the_file_has() -> None:
    [found] = mistakes(sheet("A;;bygg", header="code;title_nn;subjects"))
    assert found.column == "title_nn"
    [found] = mistakes(sheet(*(f"A;T;;;;;V;01.02.2027;02.02.2027;sted-{number};5" for number in range(21))))
    assert (found.row, found.column) == (2, "arena")


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes(sheet("A;T;;;syv;;;;;;", "B;;;;;;;;;;", "C;T;;;;;V;01.02.2027;02.02.2027;online;-1"))
    assert [(one.row, one.column) for one in found] == [(2, "studiepoeng"), (3, "title_nb"), (4, "capacity")] or [
        (one.row, one.column) for one in found
    ] == [(2, "studiepoeng"), (3, "title_nb"), (4, "capacity"), (4, "capacity")]


def test_a_header_that_will_not_do_is_told_first() -> None:
    assert mistakes(sheet(FIRST, header=HEADER.replace(";", ",")))[0].detail.startswith("has commas")
    found = mistakes(sheet(FIRST, header=HEADER.replace("arena", "sted")))
    assert [(one.column, one.detail.split(";")[0].split(":")[0]) for one in found] == [
        ("arena", "is missing from the header"),
        ("sted", "is not a column"),
    ]
    assert "UTF-16" in mistakes(sheet(FIRST).decode().encode("utf-16"))[0].detail
    for strange in ("klingon", "undefined", "punycode", "unicode_escape", "utf-7", "utf-16"):
        assert "charset that is not known" in mistakes(sheet(FIRST), strange)[0].detail
    assert mistakes(sheet(FIRST).decode().encode("cp1252"), "utf-8")[0].row == 2


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("code;title_nb", "A;T"),
        ("title_en;code", "T;A"),
        ("code;title_nb;studiepoeng;level", "A;T;7,5;5.1"),
        ("code;title_nn;offering;starts_at;ends_at;arena;capacity", "A;T;V;01.02.2027;02.02.2027;online;5"),
    ],
)
def test_a_column_that_may_be_empty_may_be_left_out(header: str, row: str) -> None:
    found = read(sheet(row, header=header))
    assert [one.code for one in found.courses] == ["A"]
    assert len(found.runs) == ("offering" in header)


@pytest.mark.parametrize(
    ("header", "column", "says"),
    [
        ("title_nb", "code", "is missing from the header"),
        ("code;summary_nb", "title_nb", "title_nn and title_en: one must be there"),
        ("code;title_nb;offering;starts_at;ends_at;arena", "capacity", "a file with offerings needs it"),
        ("code;title_nb;subject", "subject", "is not a column; is subjects meant?"),
        ("code;title_nb;start_at", "start_at", "is not a column; is starts_at meant?"),
        ("code;title_nb;farge", "farge", "is not a column; there are code, title_nb"),
        ("code;title_nb;code", "code", "stands twice"),
    ],
)
def test_a_header_is_told_by_its_column_and_what_mends_it(header: str, column: str, says: str) -> None:
    [found] = mistakes(sheet("A" + ";" * header.count(";"), header=header))
    assert (found.row, found.column) == (1, column)
    assert says in found.detail


RETRACTING = f"{HEADER};retracted;confirmed"


def test_a_reason_in_its_row_retracts_a_run_and_in_a_row_without_a_run_the_course() -> None:
    found = read(
        sheet(
            f"{FIRST};;",
            "HAV-1;;;;;;H27;01.09.2027;02.09.2027;online;20;For få lærere;SANN",
            "HAV-1;;;;;;H27;;;mosjoen;20;;",
            "B;Bygg;;;;;;;;;;slutt;",
            "C;;;;;;V27;;;;;Flom;",
            header=RETRACTING,
        )
    )
    assert [one.code for one in found.courses] == ["HAV-1"], "what is retracted is not published with it"
    assert [one.key for one in found.runs] == ["V27"]
    assert found.retractions == [
        Retraction(5, "B", None, "slutt", False),
        Retraction(6, "C", "V27", "Flom", False),
        Retraction(3, "HAV-1", "H27", "For få lærere", True),
    ]


@pytest.mark.parametrize(
    ("rows", "row", "column", "says"),
    [
        (["A;;;;;;V;;;;;;ja"], 2, "retracted", "write here why"),
        (["A;;;;;;V;;;;;Flom;kanskje"], 2, "confirmed", "must be ja"),
        (["A;;;;;;V;;;;;Flom;false"], 2, "confirmed", "must be ja"),
        (["A;;;;;;;;;online;;Flom;"], 2, "offering", "is missing"),
        (["A;;;;;;V 1;;;;;Flom;"], 2, "offering", "must be 1 to 60 of A-Z a-z 0-9 . _ -"),
        (["A;;;;;;V;;;;;Lærer 15108695088 er syk;"], 2, "retracted", "national identity number"),
        (["A;;;;;;V;;;;;Flom;", "A;;;;;;V;;;;;Storm;"], 3, "retracted", "another than in row 2"),
        (["A;;;;;;;;;;;slutt;", f"{FIRST.replace('HAV-1', 'A')};;"], 3, "retracted", "its course is retracted"),
    ],
)
def test_a_mistake_in_what_is_retracted_is_told_by_its_place(rows: list[str], row: int, column: str, says: str) -> None:
    [first, *_] = mistakes(sheet(*rows, header=RETRACTING))
    assert (first.row, first.column) == (row, column)
    assert says in first.detail


def test_rows_are_counted_as_a_spreadsheet_does_when_a_text_has_several_lines() -> None:
    long = 'A;T;"to\r\nlinjer";;;;;;;;'
    assert read(sheet(long)).courses[0].text.summary == {"nb": "to\nlinjer"}
    found = mistakes(sheet(long, "", ";;;;;;;;;;", "B;T;;;syv;;;;;;", 'C;"T;;;'))
    assert [(one.row, one.detail.partition(":")[0]) for one in found] == [(6, "is not CSV")]
    assert [(one.row, one.column) for one in mistakes(sheet(long, "", ";;;;;;;;;;", "B;T;;;syv;;;;;;"))] == [
        (5, "studiepoeng")
    ]


def test_a_header_without_end_is_refused_before_anybody_waits_for_it() -> None:
    began = time.process_time()
    [found] = mistakes(";".join(f"k{n}" for n in range(30_000)).encode() + b"\nA\n")
    assert (found.row, found.detail) == (1, f"has 30000 columns; there are {len(COLUMNS)} that a file may have")
    assert time.process_time() - began < 1


def test_a_file_of_more_rows_than_one_may_have_is_refused() -> None:
    assert "5000 rows" in mistakes(sheet(*(f"K{n};T;;;;;;;;;" for n in range(5_001))))[0].detail


def test_a_day_alone_is_its_beginning_or_its_last_minute() -> None:
    assert instant("01.07.2027") == "2027-06-30T22:00:00+00:00"
    for day in ("2027-07-01", "20270701", "01.07.2027"):
        assert instant(day, late=True) == "2027-07-01T21:59:00+00:00"
    assert instant("2027-07-01T10:00:00Z") == "2027-07-01T10:00:00+00:00"


def test_mistakes_are_counted_as_one_speaks() -> None:
    wrong = [Mistake(2, "code", "is missing"), Mistake(3, "code", "is missing")]
    assert refused(Unreadable(wrong)).detail == "2 mistakes; the first is in row 2. Nothing was taken."
    assert refused(Unreadable(wrong[1:])).detail == "1 mistake, which is in row 3. Nothing was taken."

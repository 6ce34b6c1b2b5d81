"""What is kept ready takes no more memory than it may, and whoever has an answer gets no second copy."""

import gzip
import time
import tracemalloc

import pytest
from starlette.requests import Request

from services.catalogue.kept import EACH_BYTES, LONGEST_S, Answer, Kept, Made

VERSION = (1, 1)


def made(size: int, age_s: float = 0.0) -> Made[Answer]:
    return Made(Answer(b"x" * size, {"etag": '"one"', "vary": "accept-language"}), VERSION, time.monotonic() - age_s)


def page(size: int) -> Made[Answer]:
    headers = {"etag": '"one"', "vary": "accept", "content-type": "text/html; charset=utf-8"}
    return Made(Answer(b"x" * size, headers), VERSION, time.monotonic())


def asking(**headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/kurs", "query_string": b"", "headers": pairs})


def test_what_was_used_longest_ago_goes_when_there_is_no_more_room() -> None:
    answers = Kept(most_bytes=3 * EACH_BYTES + 100)
    for address in "abc":
        answers.keep(("nb", address), made(30))
    assert answers.get(("nb", "a"))
    answers.keep(("nb", "d"), made(30))
    assert [address for address in "abcd" if answers.get(("nb", address))] == ["a", "c", "d"]


def test_an_answer_kept_anew_or_forgotten_takes_its_room_once() -> None:
    answers = Kept(most_bytes=2 * EACH_BYTES + 110)
    for _ in range(10):
        answers.keep(("nb", "a"), made(60))
    answers.keep(("nb", "b"), made(40))
    assert len(answers) == 2
    answers.forget(("nb", "a"))
    answers.forget(("nb", "a"))
    answers.keep(("nb", "c"), made(60))
    assert len(answers) == 2


def test_one_that_is_larger_than_all_there_may_be_is_not_kept() -> None:
    answers = Kept(most_bytes=EACH_BYTES + 100)
    answers.keep(("nb", "a"), made(101))
    assert len(answers) == 0


def test_many_small_answers_take_no_more_memory_than_large_ones() -> None:
    """Whoever asks for a thousand things that are not there, at long addresses, is answered with next to nothing."""
    answers = Kept(most_bytes=1 << 20)
    tracemalloc.start()
    try:
        for n in range(4_000):
            answers.keep(("nb", f"/api/catalogue/v1/courses?q={n:0200}"), made(13))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(answers) > 100
    assert kept < 2 << 20


def test_it_holds_until_something_has_changed_or_a_minute_is_over() -> None:
    assert made(1).holds(VERSION)
    assert not made(1).holds((1, 2))
    assert not made(1, age_s=LONGEST_S).holds(VERSION)


def test_whoever_has_it_is_told_so_with_the_same_headers() -> None:
    whole, known = made(5).what.to(asking()), made(5).what.to(asking(if_none_match='W/"one"'))
    assert (whole.status_code, whole.body) == (200, b"xxxxx")
    assert (known.status_code, known.body) == (304, b"")
    assert known.headers["vary"] == whole.headers["vary"] == "accept-language"
    assert "content-length" not in known.headers


def test_a_page_is_kept_small_too_for_whoever_can_read_it() -> None:
    answers, one = Kept(), page(5_000)
    answers.keep(("nb", "a"), one)
    answers.press(("nb", "a"), one)
    plain, small = one.what.to(asking()), one.what.to(asking(accept_encoding="br, gzip;q=0.5"))
    assert gzip.decompress(small.body) == plain.body == b"x" * 5_000
    assert (plain.headers.get("content-encoding"), small.headers["content-encoding"]) == (None, "gzip")
    assert plain.headers["etag"] != small.headers["etag"], "one tag for two bodies would join halves of both"
    assert plain.headers["vary"] == small.headers["vary"] == "accept, accept-encoding"
    for known in (plain.headers["etag"], small.headers["etag"]):
        again = one.what.to(asking(accept_encoding="gzip", if_none_match=known))
        assert (again.status_code, again.body, again.headers["etag"]) == (304, b"", small.headers["etag"])


@pytest.mark.parametrize("coding", ["", "br", "gzip;q=0", "gzip; q=0.0, br", "x-gzip-not"])
def test_whoever_cannot_read_gzip_gets_none(coding: str) -> None:
    answers, one = Kept(), page(50)
    answers.keep(("nb", "a"), one)
    answers.press(("nb", "a"), one)
    told = one.what.to(asking(accept_encoding=coding))
    assert (told.body, told.headers.get("content-encoding")) == (b"x" * 50, None)


def test_what_is_kept_small_takes_its_room_and_gives_it_back() -> None:
    answers = Kept(most_bytes=2 * EACH_BYTES + 122)  # the addresses are a byte each
    one = page(60)
    answers.keep(("nb", "a"), one)
    answers.press(("nb", "a"), one)
    answers.press(("nb", "a"), one)
    answers.keep(("nb", "b"), made(60))
    assert len(answers) == 1, "two of 60 and what gzip makes of one is more than there is"
    answers.forget(("nb", "b"))
    answers.press(("nb", "a"), one)  # forgotten while it was asked for
    answers.keep(("nb", "c"), made(60))
    answers.keep(("nb", "d"), made(60))
    assert len(answers) == 2

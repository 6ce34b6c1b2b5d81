"""Words that no course has any more take no memory, and those that are there are found all the while."""

import tracemalloc

from services.catalogue.postings import SPARE_WORDS, Postings
from services.catalogue.tsquery import Word


def held(postings: Postings, course: int, *words: str) -> None:
    postings.put({course: [words, words, words]})


def test_a_course_that_says_another_word_each_night_does_not_fill_the_memory() -> None:
    """`Oppdatert 27. november 2026 kl. 03.14`, in each of many courses: a word more for each, each night."""
    postings = Postings()
    held(postings, 0, "laks", "laksefisk")
    tracemalloc.start()
    try:
        for night in range(5 * SPARE_WORDS):
            held(postings, 1, f"natt{night:07}")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < SPARE_WORDS * 300
    assert postings.find(Word(f"natt{night:07}")).all == 0b10
    assert postings.find(Word("natt0000000")).all == 0
    assert postings.find(Word("natt", begins=True)).all == 0b10
    assert postings.find(Word("laks", begins=True)).all == postings.find(Word("laksefisk")).all == 0b01
    held(postings, 1, "laks")
    assert postings.find(Word("laks")).all == 0b11
    assert postings.find(Word("natt", begins=True)).all == 0
    held(postings, 1, "natt0000000")  # once forgotten, it is a word like any other
    assert postings.find(Word("natt", begins=True)).all == 0b10

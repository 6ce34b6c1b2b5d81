"""Words are found where they are, and where one begins so; words that no course has any more take no memory."""

import tracemalloc

from pyroaring import BitMap

from services.catalogue.postings import SPARE_WORDS, Places, Postings
from services.catalogue.spelling import LONGEST_WRONG, one_letter_off
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
    assert postings.find(Word(f"natt{night:07}")).all == BitMap([1])
    assert postings.find(Word("natt0000000")).all == BitMap()
    assert postings.find(Word("natt", begins=True)).all == BitMap([1])
    assert postings.find(Word("laks", begins=True)).all == postings.find(Word("laksefisk")).all == BitMap([0])
    held(postings, 1, "laks")
    assert postings.find(Word("laks")).all == BitMap([0, 1])
    assert postings.find(Word("natt", begins=True)).all == BitMap()
    held(postings, 1, "natt0000000")  # once forgotten, it is a word like any other
    assert postings.find(Word("natt", begins=True)).all == BitMap([1])


def test_a_beginning_is_found_in_words_of_many_courses_and_of_few() -> None:
    """Each of `kurs`, `kursleder` and `kurv` in other courses."""
    postings, count = Postings(), 3_000
    texts = {
        n: ["kurs"] if n % 2 else ["kursleder"] if n % 4 else ["kurv"] if n % 12 else ["laks"] for n in range(count)
    }
    postings.put({n: (["kurs"] if n % 3 == 0 else [], [], words) for n, words in texts.items()})

    def there(beginning: str) -> BitMap:
        return BitMap(n for n, words in texts.items() if any(one.startswith(beginning) for one in words))

    for beginning in ("k", "kur", "kurs", "kursl", "kurv", "l", "x"):
        found = postings.find(Word(beginning, begins=True))
        assert found.all == there(beginning)
        assert found.title == BitMap(range(0, count, 3) if "kurs".startswith(beginning) else ())
        assert not found.brief
    texts[1] = ["laks"]
    held(postings, 1, "laks")
    assert postings.find(Word("kurs", begins=True)).all == there("kurs")
    assert postings.find(Word("l", begins=True)).all == there("l")


def test_a_misspelt_word_is_found_in_as_many_courses_as_have_it_now() -> None:
    postings, count = Postings(), 2_000
    postings.put({n: (["økonomi"], [], ["økonomi"]) for n in range(count)})
    everywhere = Places(BitMap(range(count)), BitMap(), BitMap(range(count)))
    assert postings.find(Word("okonomi")) == postings.find(Word("økonomi")) == everywhere
    held(postings, 0, "laks")
    assert postings.find(Word("okonomi")).all == BitMap(range(1, count))
    held(postings, 0, "okonomi")  # once a course has it, it is no misspelling
    assert postings.find(Word("okonomi")).all == BitMap([0])


def test_a_letter_may_be_wrong_in_what_could_be_a_word() -> None:
    """A stranger may send 200 letters, which would take everybody as long as ten searches to guess at."""
    postings = Postings()
    letters = "abcdefghijklmnopqrstuvwxyz" * 8
    held(postings, 0, letters[: LONGEST_WRONG - 1])
    held(postings, 1, letters[:199])
    assert postings.find(Word(letters[:LONGEST_WRONG])).all == BitMap([0])
    assert not postings.find(Word(letters[:200])).all
    assert not list(one_letter_off(letters[:200]))

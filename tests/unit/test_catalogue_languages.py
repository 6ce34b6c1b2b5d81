"""What a title may hide: letters of another alphabet in the middle of a word."""

import pytest

from services.catalogue.languages import mixes_scripts


@pytest.mark.parametrize("text", ["Kurs i Åarjelsaemien", "Курс для всех", "Kurs: Курс", "α-stråling", "日本 kurs", ""])
def test_a_title_whose_words_are_each_of_one_alphabet_is_not_marked(text: str) -> None:
    assert not mixes_scripts(text)


@pytest.mark.parametrize("text", ["K\u0443rs", "Trygg br\u03c5k", "\u0410BC"])
def test_a_word_of_two_alphabets_is_marked(text: str) -> None:
    assert mixes_scripts(text)

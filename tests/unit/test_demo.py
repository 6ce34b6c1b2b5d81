"""The demonstration says at once what it lacks, and how to mend that."""

import json
from typing import Any

import pytest

from deploy.demo import story
from deploy.local.places import Places
from deploy.trouble import Trouble


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("state", "words", "mend"),
    [
        (None, "torgar, whose course it would be, is no partner here.", "kursnett partners sync"),
        ("suspended", "torgar, whose course it would be, is suspended.", "kursnett partners release torgar"),
        ("quarantined", "torgar, whose course it would be, is quarantined.", "kursnett partners release torgar"),
    ],
)
async def test_without_its_partner_it_does_not_begin(
    state: str | None, words: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listed(places: Any, *line: str) -> str:
        assert line == ("catalogue", "partners", "list", "--json")
        slugs = {"mosjoen": "active"} | ({"torgar": state} if state else {})
        return json.dumps([{"slug": slug, "state": its} for slug, its in slugs.items()])

    monkeypatch.setattr(story, "command", listed, raising=False)
    monkeypatch.setattr(story, "browser", None)  # nothing is done before
    with pytest.raises(Trouble) as trouble:
        await story.play(Places.__new__(Places), lambda text: None)
    assert words in str(trouble.value)
    assert mend in trouble.value.mend

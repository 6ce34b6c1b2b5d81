"""The judge of lines knows whose turn it is, without a stack."""

from typing import Any

from tests.faults.lines import Offering


def step(who: str, to: str, before: str | None = None, why: str = "asked", by: str = "learner") -> dict[str, Any]:
    seats = {"offered": "online"}
    return {
        "enrolment_id": who,
        "from_state": before,
        "to_state": to,
        "from_place": seats.get(before or ""),
        "place": seats.get(to),
        "by_whom": by,
        "why": why,
    }


def row(who: str, group: str | None) -> dict[str, Any]:
    return {"id": who, "group_name": group, "choices": ["online"], "wait_for_earlier": True}


def test_a_group_brings_nobody_back_in_front_who_has_had_their_turn() -> None:
    line = Offering(groups=[["kommune"]])
    kari, ola, per = row("kari", "kommune"), row("ola", None), row("per", "kommune")
    line.take(step("ola", "queued"), ola)
    line.take(step("kari", "queued"), kari)
    assert line.in_front("online") == {"kari"}
    line.take(step("kari", "offered", "queued", by="line"), kari)
    assert line.in_front("online") == {"ola"}
    line.take(step("kari", "queued", "offered", "declined"), kari)
    assert line.in_front("online") == {"ola"}, "behind all, whatever her group"
    line.take(step("per", "queued"), per)
    assert line.in_front("online") == {"per"}, "whose group comes first as before"

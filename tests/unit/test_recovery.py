"""From when to when the fault suite counts a recovery."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.faults.history import History
from tests.faults.recovery import Recovery
from tests.faults.schedule import Fault, sorts
from tests.faults.stack import FaultStack

pytestmark = pytest.mark.anyio


def fault(target: str) -> Fault:
    return Fault(1, 0, 0.0, "service", "kill", target, 0.0, 1)


class Unstarted(FaultStack):
    """A stack that gives tokens and never starts."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._issuer = "http://issuer.test"


async def test_a_write_counts_when_it_was_asked_for_after_the_fault(tmp_path: Path) -> None:
    with History(tmp_path / "history.jsonl") as history:
        recovery = Recovery(Unstarted(tmp_path), history)
        history.add("invoke", f="enrol", id="before", n=1)
        await asyncio.sleep(0.001)  # the lines' times are rounded to a tenth of that
        since = time.monotonic()
        await asyncio.sleep(0.001)
        history.add("invoke", f="enrol", id="lost", n=1)
        history.add("ok", f="enrol", id="before", n=1)  # it was under way when the fault came
        history.add("info", f="enrol", id="lost", n=1)
        history.add("invoke", f="read", id="read", n=1)
        history.add("ok", f="read", id="read", n=1)
        history.add("invoke", f="enrol", id="lost", n=2)
        done = history.add("ok", f="enrol", id="lost", n=2)
        awaited, seconds = await recovery.seconds(fault("enrolment"), since)
        await recovery.close()
    assert awaited == "seat taken or given back"
    assert seconds == pytest.approx(done["t"] - since, abs=0.002)


async def test_what_never_works_again_is_told_as_not_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.recovery.WITHIN_S", 0.05)
    with History(tmp_path / "history.jsonl") as history:
        recovery = Recovery(Unstarted(tmp_path), history)
        assert await recovery.seconds(fault("postgres"), time.monotonic()) == ("seat taken or given back", None)
        await recovery.close()


@pytest.mark.parametrize(
    ("target", "awaited"),
    [
        ("enrolment", "seat taken or given back"),
        ("clients-enrolment", "seat taken or given back"),
        ("postgres", "seat taken or given back"),
        ("catalogue-postgres", "catalogue read"),
        ("clients-catalogue", "catalogue read"),
        ("kafka-2", "events of enrolment published"),
        ("kafka-1-2", "events of enrolment published"),
        ("enrolment-kafka-1", "events of enrolment published"),
        ("catalogue-kafka", "events of catalogue published"),
        ("notifier-kafka-1", "event heard by notifier"),
        ("notifier-postgres", "event heard by notifier"),
        ("notifier-smtp", "mail taken"),
        ("notifier-hooks", "webhook called"),
        ("hooks", "webhook called"),
        ("sink", "mail taken"),
    ],
)
async def test_what_was_hit_is_what_must_work_again(tmp_path: Path, target: str, awaited: str) -> None:
    assert target in {one for sort in sorts(3) for one in sort.targets}
    with History(tmp_path / "history.jsonl") as history:
        recovery = Recovery(Unstarted(tmp_path), history)
        assert recovery._awaited(target)[0] == awaited
        await recovery.close()

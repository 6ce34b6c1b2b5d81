"""An address that is refused for good is not written to any more, until its learner or an operator says so."""

import asyncio
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import cyclopts
import pytest

from contracts.enrolment import LearnerEnrolled, SeatOffered
from kit import sealing
from services.notifier import events
from services.notifier import operating as program
from services.notifier.channels.channel import Never
from services.notifier.sender import Sender
from services.notifier.store import outgoing
from tests.delivery import Servers, until
from tests.notifying import PUBLIC, START, Sink, World, mail_server, notifier

pytestmark = pytest.mark.anyio
GONE = "550 5.1.1 no such person here"
PERHAPS = "550 not today"


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with mail_server() as sink:
        yield sink


@pytest.fixture
async def world(servers: Servers, sink: Sink) -> AsyncIterator[World]:
    async with notifier(servers, sink) as world:
        yield world


async def owed(world: World, learner: uuid.UUID) -> None:
    await world.hear(events.enrolments, [LearnerEnrolled(**world.about(learner), place="mosjoen")])


async def ends(world: World, learner: uuid.UUID) -> list[tuple[str, str | None]]:
    """(state, reason) of this learner's notices, once none is open; the oldest first."""
    mine = "SELECT state, reason FROM notices WHERE learner_id = $1 ORDER BY id"

    async def over() -> bool:
        rows = await world.rows(mine, learner)
        return all(row["state"] in ("sent", "failed", "suppressed") for row in rows)

    async with world.sending():
        await until(over)
    return [(row["state"], row["reason"]) for row in await world.rows(mine, learner)]


async def pass_days(world: World, days: int) -> None:
    await world.rows("UPDATE refusals SET day = day - 1000 - $1::integer", days)  # away first: days are unique
    await world.rows("UPDATE refusals SET day = day + 1000")


async def known(world: World, email: str = "kari@example.no") -> uuid.UUID:
    learner = uuid.uuid4()
    await world.contact_is_known(learner, email)
    return learner


FAILED, NOT_SENT = ("failed", "refused_address"), ("suppressed", "bounced")


async def test_a_bad_address_fails_once_is_told_and_is_not_written_to_again(world: World, sink: Sink) -> None:
    learner, same = await known(world), await known(world, "Kari@example.no")
    sink.rcpt = [GONE]
    await owed(world, learner)
    assert await ends(world, learner) == [FAILED]
    connections = sink.connections
    await owed(world, learner)
    await owed(world, same)
    assert await ends(world, learner) == [FAILED, NOT_SENT]
    assert await ends(world, same) == [NOT_SENT]
    assert sink.connections == connections  # the mail server was not asked
    assert sink.seen == []
    told = await world.told()
    assert [(kind, said["reason"]) for kind, said in told] == [
        ("NoticeFailed", "refused_address"),
        ("AddressBounced", "5.1.1"),
    ]
    assert told[1][1] == {"learner_id": str(learner), "reason": "5.1.1"}


async def test_no_address_is_kept_beside_the_contact_or_said(world: World, sink: Sink, capfd: Any) -> None:
    sink.rcpt = [GONE]
    learner = await known(world, "canary@example.no")
    await owed(world, learner)
    assert await ends(world, learner) == [FAILED]
    tables = await world.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'contacts'")
    assert {"bounced_addresses", "refusals"} <= {row["tablename"] for row in tables}
    for row in tables:
        found = await world.rows(f'SELECT FROM "{row["tablename"]}" AS one WHERE one::text ILIKE $1', "%canary%")
        assert not found, row["tablename"]
    assert "canary" not in capfd.readouterr().out


async def test_what_may_be_a_mistake_bars_nobody_before_the_third_day(world: World, sink: Sink) -> None:
    learner = await known(world)
    for day in (0, 1, 2):
        await pass_days(world, 1)
        sink.rcpt = [PERHAPS] * 2
        for second in (False, True):  # as often as it likes on one day
            await owed(world, learner)
            assert (await ends(world, learner))[-1] == (NOT_SENT if second and day == 2 else FAILED)
    assert [said["reason"] for kind, said in await world.told() if kind == "AddressBounced"] == ["550"]


async def test_what_was_refused_more_than_thirty_days_ago_is_forgotten(world: World, sink: Sink) -> None:
    learner = await known(world)
    for days in (29, 1, 1):
        sink.rcpt = [PERHAPS]
        await owed(world, learner)
        assert (await ends(world, learner))[-1] == FAILED
        await pass_days(world, days)
    assert await world.rows("SELECT FROM bounced_addresses") == []
    assert len(await world.rows("SELECT FROM refusals")) == 2  # on the day of the third, the first was 30 days old
    sink.rcpt = [PERHAPS]
    await owed(world, learner)
    assert (await ends(world, learner))[-1] == FAILED
    assert len(await world.rows("SELECT FROM bounced_addresses")) == 1  # on three of the last thirty days
    assert len(await world.rows("SELECT FROM refusals")) == 3


@pytest.mark.parametrize(
    "answer", ["550 5.7.1 you are on a list", "550 5.1.8 bad sender", "530 log in first", "554 relay access denied"]
)
async def test_a_no_to_us_costs_nobody_a_mail_and_says_nothing_of_the_address(
    world: World, sink: Sink, answer: str
) -> None:
    """Red control: while a relay knows us no more for an hour, every notice of that hour fails for good."""
    learner = await known(world)
    sink.rcpt = [answer]
    await owed(world, learner)
    async with world.sending():
        await world.all_are("deferred", 1)
    assert await world.rows("SELECT FROM refusals UNION ALL SELECT FROM bounced_addresses") == []
    await world.hurry()
    assert await ends(world, learner) == [("sent", None)]


async def test_a_no_to_the_protocol_says_nothing_of_the_address(world: World, sink: Sink) -> None:
    learner = await known(world)
    sink.rcpt = ["550 5.5.0 not taken"]
    await owed(world, learner)
    assert await ends(world, learner) == [FAILED]
    assert await world.rows("SELECT FROM refusals UNION ALL SELECT FROM bounced_addresses") == []


async def test_who_gives_another_address_is_written_to_again_and_an_older_contact_changes_nothing(
    world: World, sink: Sink
) -> None:
    learner = await known(world, "old@example.no")
    sink.rcpt = [GONE]
    await owed(world, learner)
    assert await ends(world, learner) == [FAILED]
    await world.contact_is_known(learner, "old@example.no")  # with a new enrolment: the same again
    seq, world.seq = world.seq, 0
    await world.contact_is_known(learner, "older@example.no")  # a replay
    world.seq = seq
    await owed(world, learner)
    assert (await ends(world, learner))[-1] == NOT_SENT
    await world.contact_is_known(learner, "new@example.no")
    await owed(world, learner)
    assert (await ends(world, learner))[-1] == ("sent", None)
    assert sink.recipients() == ["new@example.no"]
    assert await world.rows("SELECT FROM bounced_addresses") == []


async def test_an_offer_that_is_not_sent_keeps_no_links(world: World, sink: Sink) -> None:
    learner = await known(world)
    sink.rcpt = [GONE]
    await owed(world, learner)
    assert await ends(world, learner) == [FAILED]
    offer = SeatOffered(
        **world.about(learner),
        offer_id=uuid.uuid4(),
        place="mosjoen",
        expires_at=START,
        on_lapse="leave",
        sealed=sealing.seal(PUBLIC, {"accept": "a", "decline": "b"}),
    )
    await world.hear(events.enrolments, [offer])
    assert (await ends(world, learner))[-1] == NOT_SENT
    assert await world.rows("SELECT FROM notices WHERE sealed IS NOT NULL") == []


async def test_a_late_sender_notes_no_refusal_for_a_notice_that_another_has_in_hand(world: World) -> None:
    learner = await known(world)
    await owed(world, learner)
    [first] = await world.here.database.run(lambda conn: outgoing.claim(conn, 5, "x.example", ""))
    sender, no = Sender(world.settings), Never("refused_address", "5.1.1")
    late = dataclasses.replace(first, attempt=first.attempt + 1)
    await world.here.database.run(lambda conn: sender._never(conn, late, no))
    assert await world.rows("SELECT FROM bounced_addresses") == []
    await world.here.database.run(lambda conn: sender._never(conn, first, no))
    assert len(await world.rows("SELECT FROM bounced_addresses")) == 1


async def said(world: World, monkeypatch: pytest.MonkeyPatch, capsys: Any, *line: str) -> tuple[int, str]:
    """The exit code of one command of the service's own command line, and what it said."""
    monkeypatch.setattr(program, "read", lambda kind: world.settings)
    app = cyclopts.App()
    program.operators(app)

    def run() -> tuple[int, str]:
        try:
            app(list(line), exit_on_error=False, print_error=False)
        except SystemExit as end:
            return (1, end.code) if isinstance(end.code, str) else (int(end.code or 0), "")
        return 0, ""

    capsys.readouterr()
    code, words = await asyncio.to_thread(run)
    return code, words + capsys.readouterr().out


async def test_operators_list_addresses_without_showing_them_and_release_them(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    learner, other = await known(world), await known(world, "ola@example.no")
    assert await said(world, monkeypatch, capsys, "mail", "suppressed") == (0, "no address is suppressed\n")
    sink.rcpt = [GONE]
    for _ in range(2):
        await owed(world, learner)
        await ends(world, learner)
    code, out = await said(world, monkeypatch, capsys, "mail", "suppressed", "--json")
    [row] = json.loads(out)
    assert (row["learner_id"], row["status"], row["suppressed"]) == (str(learner), "5.1.1", 1)
    assert len(row["address_digest"]) == 64
    assert "@" not in out
    assert await said(world, monkeypatch, capsys, "mail", "release", str(learner), "--dry-run") == (
        0,
        f"{learner} would be written to again.\n",
    )
    await owed(world, learner)
    assert (await ends(world, learner))[-1] == NOT_SENT  # a dry run does nothing
    code, _ = await said(world, monkeypatch, capsys, "mail", "release", str(learner))
    assert code == 0
    await owed(world, learner)
    assert await ends(world, learner) == [FAILED, NOT_SENT, NOT_SENT, ("sent", None)]
    nobody = uuid.uuid4()
    for who, words in ((learner, "is not suppressed"), (other, "is not suppressed"), (nobody, "is known here")):
        code, out = await said(world, monkeypatch, capsys, "mail", "release", str(who))
        assert code == 1
        assert words in out
        assert "@" not in out


async def test_a_release_forgets_the_days_too(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    learner = await known(world)
    for _ in range(3):
        sink.rcpt = [PERHAPS]
        await owed(world, learner)
        await ends(world, learner)
        await pass_days(world, 1)
    await said(world, monkeypatch, capsys, "mail", "release", str(learner))
    sink.rcpt = [PERHAPS]
    await owed(world, learner)
    assert (await ends(world, learner))[-1] == FAILED
    assert await world.rows("SELECT FROM bounced_addresses") == []

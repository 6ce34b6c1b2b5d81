"""What learners and partners ask for, decided together: enrol, withdraw, accept, decline, approve, deny."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import uuid_utils.compat as uuid

from contracts.enrolment import ContactGiven
from kit import acts as operators
from kit import trail
from kit.acts import Operator
from kit.database import Connection
from kit.problems import Problem
from kit.trail import Trail
from services.enrolment import acts, asking, refusals
from services.enrolment.acts import Cannot, Kind, Step
from services.enrolment.asking import HOUR, Ask, Had, Most
from services.enrolment.domain import LIVE, Change, Enrolment
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import enrolments
from services.enrolment.store.enrolments import Owner
from services.enrolment.work import Work


@dataclass(frozen=True, slots=True)
class Enrol:
    """Give the learner the best free seat among `choices` (arenas, best first), or a place in line.

    `login` is (issuer, subject); `sealed` the contact for the notifier, if one was given; `seen` the hours of the run
    that were seen, if they count.
    """

    offering_id: UUID
    login: tuple[str, str]
    choices: tuple[str, ...]
    name: str
    sealed: str | None = None
    group: str | None = None
    wait_for_earlier: bool = True
    on_lapse: str | None = None
    seen: str = ""
    trail: Trail = field(default_factory=trail.here)

    @property
    def lock(self) -> UUID:
        """What it is decided under."""
        return self.offering_id


@dataclass(frozen=True, slots=True)
class Act:
    """Do something with an enrolment that is there.

    `may` says whether the caller may; `expect` raises when the enrolment, locked, is not what the caller has read;
    `stay` is for decline, `reason` for deny; `lock` is its offering, where the order of several acts counts. What an
    `operator` does in a partner's place is written down.
    """

    kind: Kind
    enrolment_id: UUID
    may: Callable[[Owner], bool]
    expect: Callable[[Enrolment], None] = lambda here: None
    stay: bool = False
    reason: str = ""
    lock: UUID | None = None
    operator: Operator | None = None
    trail: Trail = field(default_factory=trail.here)


Command = Enrol | Act
Outcome = Enrolment | Problem


async def decide(conn: Connection, asked: Sequence[Command], settings: EnrolmentSettings) -> list[Outcome]:
    """Decide commands in the caller's transaction; what became of each.

    First those who leave or answer, then approvals, then those who ask, each in the order of their arrival: so nobody
    who asks is sent to the line for a seat that another of the same moment gives up, and a freed seat goes to the line
    before it can go to who asks. However many ask, leave or answer, they cost the same number of statements; each
    approval, each act of an operator, and each offering with a freed seat, costs some of its own.
    """
    learners = await enrolments.know_learners(conn, sorted({one.login for one in asked if isinstance(one, Enrol)}))
    named = [one.enrolment_id for one in asked if isinstance(one, Act)]
    owners = await enrolments.owners(conn, named) if named else {}
    wanted = {one.offering_id for one in asked if isinstance(one, Enrol)}
    work = await Work.on(conn, wanted | {owner.offering_id for owner in owners.values()}, settings)
    outcomes: dict[int, Outcome] = {}
    if named:
        here = await enrolments.enrolments(conn, named)
        for kinds in (("withdraw", "accept", "decline", "deny"), ("approve",)):
            some = {n: one for n, one in enumerate(asked) if isinstance(one, Act) and one.kind in kinds}
            await _act(work, some, owners, here, outcomes)
    await _enrol(work, {n: one for n, one in enumerate(asked) if isinstance(one, Enrol)}, learners, outcomes)
    await _as_it_is(conn, [n for n, one in enumerate(asked) if isinstance(one, Act)], outcomes)
    await work.close()
    return [outcomes[number] for number in range(len(asked))]


async def _act(
    work: Work,
    asked: Mapping[int, Act],
    owners: Mapping[UUID, Owner],
    here: dict[UUID, Enrolment],
    outcomes: dict[int, Outcome],
) -> None:
    """404 for who may not, 409 for what cannot be; what is so already changes nothing."""
    steps: dict[UUID, tuple[Change, Trail]] = {}  # one for each enrolment: a second is of what the first has made

    async def take() -> None:
        for after in await work.change([step for step, _ in steps.values()], [path for _, path in steps.values()]):
            here[after.id] = after
        steps.clear()

    touched: dict[UUID, Trail] = {}
    for number, one in asked.items():
        if one.enrolment_id in steps:
            await take()
        owner, enrolment = owners.get(one.enrolment_id), here.get(one.enrolment_id)
        # Whose it was before the lock: who was forgotten meanwhile has none.
        forgotten = owner is not None and enrolment is not None and owner.learner_id != enrolment.learner_id
        if owner is None or enrolment is None or forgotten or not one.may(owner):
            outcomes[number] = refusals.unknown_enrolment()
            continue
        try:
            one.expect(enrolment)
        except Problem as problem:
            outcomes[number] = problem
            continue
        step = _step(one, enrolment, work)
        if isinstance(step, Change):
            if one.operator is not None:
                # Without the reason of a denial, which is about a person: it stands with them, and goes with them.
                await operators.add(work.conn, one.operator, f"enrolments {one.kind}", [str(enrolment.id)])
            if one.kind == "approve":  # each sees the seats that the one before it has left
                step = await work.placed(step)
                [after] = await work.change([step], [one.trail])
                here[after.id] = outcomes[number] = after
                continue
            steps[one.enrolment_id] = (step, one.trail)
            touched[owner.offering_id] = one.trail
            outcomes[number] = step.after
        else:
            outcomes[number] = refusals.cannot(step) if isinstance(step, Cannot) else enrolment
    await take()
    for offering_id, path in touched.items():
        await work.fill(offering_id, path)


async def _as_it_is(conn: Connection, numbers: Sequence[int], outcomes: dict[int, Outcome]) -> None:
    """What was freed beside it may have moved who answered, or have brought them a seat: they are told of that."""
    found = [(n, one) for n in numbers if isinstance(one := outcomes[n], Enrolment) and one.state in LIVE]
    if found:
        now = await enrolments.enrolments(conn, [one.id for _, one in found])
        outcomes.update({n: now[one.id] for n, one in found})


def _step(one: Act, here: Enrolment, work: Work) -> Step:
    book = work.books[here.offering_id]
    match one.kind:
        case "withdraw":
            return acts.withdraw(here)
        case "accept":
            return acts.accept(here, book.offering, work.now)
        case "decline":
            return acts.decline(here, book.offering, work.now, one.stay)
        case "deny":
            return acts.deny(here, one.reason)
        case "approve":
            return acts.approve(here, book, work.now)


async def _enrol(
    work: Work, asked: Mapping[int, Enrol], learners: Mapping[tuple[str, str], UUID], outcomes: dict[int, Outcome]
) -> None:
    """404 for an unknown offering, 409 when it is closed or the learner is there already, 422 naming a wrong field."""
    known = {number: one for number, one in asked.items() if one.offering_id in work.books}
    outcomes.update({number: refusals.unknown_offering() for number in asked.keys() - known.keys()})
    if not known:
        return
    an_hour_ago, had = work.now - HOUR, Had()
    own = await enrolments.of_learners(work.conn, [learners[one.login] for one in known.values()], an_hour_ago)
    live = [enrolment for enrolment in own if enrolment.state in LIVE]
    for enrolment in own:
        if enrolment.asked_at > an_hour_ago:
            had.begun[enrolment.learner_id].append(enrolment.asked_at)
    for enrolment in live:
        had.live[enrolment.learner_id] += 1
        if enrolment.offering_id in work.books:
            work.books[enrolment.offering_id].live[enrolment.learner_id] = enrolment
    before = {enrolment.id: enrolment for enrolment in live}
    lined = [id for id in {one.offering_id for one in known.values()} if _has_line(work, id)]
    if lined:
        for offering_id, line in (await enrolments.lines(work.conn, lined)).items():
            work.books[offering_id].line = line
    asks = [
        Ask(
            enrolment_id=uuid.uuid7(),
            offering_id=one.offering_id,
            learner_id=learners[one.login],
            choices=one.choices,
            name=one.name,
            group=one.group,
            wait_for_earlier=one.wait_for_earlier,
            on_lapse=one.on_lapse,
            seen=one.seen,
        )
        for one in known.values()
    ]
    most = Most(work.settings.most_live_enrolments, work.settings.enrolments_per_hour)
    decisions = asking.decide(asks, work.books, work.now, had, most)
    made: list[tuple[Enrolment, Enrol]] = []
    taken: list[tuple[Change, Enrol]] = []
    for (number, one), decision in zip(known.items(), decisions, strict=True):
        if not isinstance(decision, Enrolment):
            outcomes[number] = refusals.refused(decision)
            continue
        outcomes[number] = decision
        if decision.id in before:
            step = Change(before[decision.id], decision, "learner", "asked for a seat that is open to all")
            taken.append((step, one))
            if one.sealed is not None:
                work.say(ContactGiven(learner_id=decision.learner_id, sealed=one.sealed), one.trail)
        else:
            made.append((decision, one))
    await work.add([e for e, _ in made], [one.trail for _, one in made], [one.sealed for _, one in made])
    await work.change([step for step, _ in taken], [one.trail for _, one in taken], noted=True)


def _has_line(work: Work, offering_id: UUID) -> bool:
    return any(place.queued for place in work.books[offering_id].places.values())

"""Tells those in line how far up they have come, in the morning after the line has moved, each once a day at most; and
whoever waits when enrolment closes that no seat came.

A line of 10,000 in which one step is taken moves by one: said at each step, that would be 10,000 events each time. So a
step only sets the hour, and that is nothing but a timer; what is said then is said of all steps since.
"""

from services.enrolment import domain
from services.enrolment.domain import Book
from services.enrolment.store import lines
from services.enrolment.telling import advanced, in_vain
from services.enrolment.work import Work


async def tell(work: Work, book: Book, most: int) -> None:
    """Say to at most so many whose place is better than what they were last told; the rest is due at once, too.

    Nothing is said before the hour, and nothing once a free seat is whose who asks first: no place counts then. Nor
    does one of who waits where nobody is taken any more. Who has been told no place yet, as whoever was put at the
    back, is told of the next step.
    """
    offering, now = book.offering, work.now
    if offering.tell_line_at is None or now < offering.tell_line_at:
        return
    if domain.closed(offering, now) is not None or offering.open_to_all(now):
        await lines.tell_at(work.conn, offering.id, None)
        return
    line = await lines.standing(work.conn, offering.id)
    closed = {place.arena for place in book.places.values() if not place.open}
    better = [(one, place) for one, place in domain.better_places(line) if not closed.issuperset(one.waiting_for)]
    today = domain.day(now)
    owed = [(one, place) for one, place in better if not one.told_on(today)]
    some = owed[:most]
    for one, place in some:
        if one.place_told is not None:
            work.say(advanced(one, place, offering))
    await lines.told(work.conn, [(one.id, place) for one, place in some])
    if len(some) < len(owed):
        work.look_at(offering.id, now)
        return
    # Who has come further up since they were told this morning hears of it tomorrow.
    at = domain.next_hour(now, work.settings.line_told_at) if len(owed) < len(better) else None
    await lines.tell_at(work.conn, offering.id, at)
    if at is not None:
        work.look_at(offering.id, at)


async def tell_in_vain(work: Work, book: Book, most: int) -> bool:
    """Say to at most so many who wait still that they got no seat; once enrolment has closed. False while there may be
    a rest.

    They stay where they are: when the run is moved, or taken up again, they stand in line as before. It is said when
    enrolment closes, not at the end of a course of many weeks; and again only where it was open in between.
    """
    some = await lines.in_vain(work.conn, book.offering.id, book.offering.closes_at, most)
    for one in some:
        work.say(in_vain(one, book.offering))
    return len(some) < most

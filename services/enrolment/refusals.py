"""What learners and partners are told when something cannot be done, each kind with its page."""

from kit.problems import Problem, explain
from services.enrolment.acts import Cannot
from services.enrolment.asking import Already, Closed, Moved, Refused, TooMany, TooOften, Wrong

explain(
    "already-enrolled",
    "You are already enrolled",
    "You have a seat, an offer or a place in line here already, or wait for approval; `enrolment_id` names it. To "
    "choose other places, withdraw first.",
)
explain(
    "unknown-place",
    "This offering is not held there",
    "`errors` names each of `places` that is none of this offering's, and those it has. Nothing was done.",
)
explain("place-twice", "A place is named twice", "Name each of `places` once, best first. Nothing was done.")
explain(
    "unknown-group",
    "This offering knows no such group",
    "`errors` says which groups it has; leave `group` out if you belong to none of them. Nothing was done.",
)
explain(
    "offering-closed",
    "This offering is closed",
    "It was cancelled, has started, or its time of enrolment is over (`reason` says which): nobody can enrol any more. "
    "Look for another run of the course.",
)
explain(
    "not-open-yet",
    "Enrolment has not opened",
    "It opens at `opens_at`. When `groups` has names, it is open now for who belongs to one of these.",
)
explain(
    "other-group",
    "Enrolment is open for others",
    "It is open now for who belongs to one of `groups`, and for nobody else. If you do, send it as `group`.",
)
explain(
    "too-many-enrolments",
    "You have too many enrolments",
    "One person may hold or wait for so many seats (`most`), so that there are some for others. Withdraw from one.",
)
explain(
    "enrolling-too-often",
    "You enrol too often",
    "One person may begin so many enrolments an hour (`most`), also when they withdraw again: each sends mails. Wait "
    "for as many seconds as `Retry-After` says, then ask again.",
)
explain("not-withdrawable", "There is nothing to withdraw", "The enrolment has ended, and its `state` says how.")
explain(
    "no-offer",
    "There is no offer to answer",
    "A seat can be accepted or declined while its `state` is `offered`. It is not, or no longer.",
)
explain(
    "offer-lapsed",
    "The offer has lapsed",
    "Nobody answered before its deadline, and the seat goes to others.",
)
explain("not-pending", "There is nothing to approve", "The partner has decided it, or it needs no approval.")
explain(
    "link-not-valid",
    "This link is not valid",
    "It is not complete, or was made for something else. Open the newest mail about this course, or log in.",
)
explain(
    "link-used",
    "This link has been used",
    "The offer has been answered, or has ended. Log in to see how it stands.",
)

CLOSED = {
    "cancelled": "The offering was cancelled.",
    "started": "The offering has started.",
    "over": "The time of enrolment is over.",
}


def unknown_offering() -> Problem:
    return Problem("not-found", "Not found", 404, "There is no such offering.")


def unknown_enrolment() -> Problem:
    return Problem("not-found", "Not found", 404, "There is no such enrolment, or it is not yours.")


def bad_link() -> Problem:
    words = "Open the newest mail about this course, or log in."
    return Problem("link-not-valid", "This link is not valid", 404, words)


def used_link(outcome: str | None) -> Problem:
    words = "The offer has been answered, or has ended."
    return Problem("link-used", "This link has been used", 410, words, outcome=outcome)


def lapsed_link() -> Problem:
    return Problem("offer-lapsed", "The offer has lapsed", 410, "Its deadline has passed.")


def refused(why: Refused) -> Problem:
    """Why somebody who asked got nothing."""
    match why:
        case Closed(reason="not_yet_open", opens_at=opens_at, groups=groups):
            at = opens_at.isoformat().replace("+00:00", "Z") if opens_at else None
            words = f"Enrolment opens at {at}."
            return Problem("not-open-yet", "Enrolment has not opened", 409, words, opens_at=at, groups=list(groups))
        case Closed(reason="other_group", groups=groups):
            words = f"Enrolment is open for: {', '.join(groups)}."
            return Problem("other-group", "Enrolment is open for others", 409, words, groups=list(groups))
        case Closed(reason=reason):
            return Problem("offering-closed", "This offering is closed", 409, CLOSED[reason], reason=reason)
        case Already(enrolment_id):
            words = "You have a seat, an offer or a place in line here already, or wait for approval."
            live = str(enrolment_id)
            return Problem("already-enrolled", "You are already enrolled", 409, words, enrolment_id=live)
        case TooMany(most):
            words = f"You have {most} already, which is as many as one may have. Withdraw from one first."
            return Problem("too-many-enrolments", "You have too many enrolments", 409, words, most=most)
        case TooOften(most, wait_s):
            words = f"You may begin {most} enrolments an hour. Wait {wait_s} s."
            wait = {"retry-after": str(wait_s)}
            return Problem("enrolling-too-often", "You enrol too often", 429, words, headers=wait, most=most)
        case Moved():
            words = "The offering is held at other hours than those that were seen. Read it again."
            return Problem("precondition-failed", "It has changed since you read it", 412, words, reason="moved")
        case Wrong(field="places", known=known, numbers=numbers):
            words = f"must be one of: {', '.join(known)}" if known else "cannot be taken: this offering has no places"
            errors = [{"field": f"places[{number}]", "detail": words} for number in numbers]
            told = f"Each of `places` {words}."
            return Problem("unknown-place", "This offering is not held there", 422, told, errors=errors)
        case Wrong(known=known):
            words = f"must be one of: {', '.join(known)}" if known else "must be left out: this offering has no groups"
            errors = [{"field": "group", "detail": words}]
            told = f"`group` {words}."
            return Problem("unknown-group", "This offering knows no such group", 422, told, errors=errors)


def place_twice() -> Problem:
    words = "must not name a place twice"
    errors = [{"field": "places", "detail": words}]
    return Problem("place-twice", "A place is named twice", 422, f"`places` {words}.", errors=errors)


def cannot(step: Cannot) -> Problem:
    """Why an enrolment could not be changed in this way."""
    match step.why:
        case "ended":
            words = f"The enrolment is {step.state}."
            return Problem("not-withdrawable", "There is nothing to withdraw", 409, words, state=step.state)
        case "no_offer":
            words = f"The enrolment is {step.state}, not offered."
            return Problem("no-offer", "There is no offer to answer", 409, words, state=step.state)
        case "lapsed":
            words = "Its deadline has passed, and the seat goes to others."
            return Problem("offer-lapsed", "The offer has lapsed", 409, words, state=step.state)
        case "not_pending":
            words = f"The enrolment is {step.state}, not pending."
            return Problem("not-pending", "There is nothing to approve", 409, words, state=step.state)
        case "cancelled" | "started":
            return Problem("offering-closed", "This offering is closed", 409, CLOSED[step.why], reason=step.why)

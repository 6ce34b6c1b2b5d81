"""What each kind of notice is: its category, which people may choose about, and the appointment that goes with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Category = Literal["seat", "offer", "changes", "reminders", "news", "partner"]
Transactional = Literal["seat", "offer"]  # what became of the own seat: told at once, whatever was chosen
Method = Literal["REQUEST", "CANCEL"]


@dataclass(frozen=True)
class Kind:
    """`method` is what the appointment in its mail does to a calendar, none where a mail has none.

    `again`: its mail goes again when nobody knows whether it has gone; else it is rather missed than had twice.
    """

    category: Category
    method: Method | None = None
    again: bool = True


PARTNER_DIGEST = "partner_digest"  # to a partner's office, once a day
ADVANCED = "advanced"  # how far up in line: worth telling while its person stands there, and only the newest

# By template.
KINDS: Mapping[str, Kind] = {
    "enrolled": Kind("seat", "REQUEST"),
    "seat_from_line": Kind("seat", "REQUEST"),
    "queued": Kind("seat"),
    "pending": Kind("seat"),
    "denied": Kind("seat"),
    "no_seat": Kind("seat"),
    "offered": Kind("offer"),
    "lapsed": Kind("offer"),
    "declined": Kind("offer"),
    "moved": Kind("seat", "REQUEST"),
    "withdrawn": Kind("seat", "CANCEL"),
    "changed": Kind("changes", "REQUEST"),
    "confirmed": Kind("changes"),
    "reminder": Kind("reminders"),
    ADVANCED: Kind("reminders", again=False),  # there is a next one, and the page of notices has it
    "offering_cancelled": Kind("seat", "CANCEL"),
    PARTNER_DIGEST: Kind("partner"),
}


EMAIL, SMS = "email", "sms"
# Which notices go by SMS too, to whoever wants that: those that cannot wait. And in which states of the enrolment each
# still says something, as it may be over by the hour at which one may be disturbed; none: whatever has become of it.
TEXTED: Mapping[str, tuple[str, ...]] = {
    "enrolled": ("associated",),
    "seat_from_line": ("associated",),
    "moved": ("associated",),
    "offered": ("offered",),
    "changed": ("pending", "associated", "offered", "queued", "finished", "over"),  # those, when the last are dropped
    "reminder": ("associated",),
    "offering_cancelled": (),
}

TRANSACTIONAL: tuple[Transactional, ...] = get_args(Transactional)
ONCE = frozenset(template for template, kind in KINDS.items() if not kind.again)
CATEGORY_OF: Mapping[str, Category] = {template: kind.category for template, kind in KINDS.items()}
TEXTED_CATEGORY_OF: Mapping[str, Category] = {template: CATEGORY_OF[template] for template in TEXTED}
BY_SMS: tuple[Category, ...] = tuple(dict.fromkeys(TEXTED_CATEGORY_OF.values()))


def with_method(method: Method) -> list[str]:
    """The templates whose mails have such an appointment."""
    return [template for template, kind in KINDS.items() if kind.method == method]

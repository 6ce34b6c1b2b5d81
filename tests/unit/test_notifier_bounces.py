"""What a mail server's refusal says of an address, and how an address is known without being written down."""

import aiosmtplib
import pytest

from kit import sealing
from services.notifier import bounces
from services.notifier.channels.channel import Later, Never
from services.notifier.channels.email import answer

PRIVATE, _ = sealing.generate()


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (550, "5.1.1 no such user", "5.1.1"),
        (550, "5.1.10 takes no mail\nsee RFC 7505", "5.1.10"),
        (550, "no such user", "550"),
        (550, "", "550"),
        (553, "4.1.1 no such user", "553"),  # not the class of the answer: believed as far as its code
        (550, "see 5.1.1", "550"),
        (550, "5.1.1234 what", "550"),
        (550, "5.1.1.7 what", "550"),
    ],
)
def test_the_status_is_what_the_answer_begins_with(code: int, text: str, status: str) -> None:
    assert bounces.status(code, text) == status


@pytest.mark.parametrize(
    ("status", "days"),  # on the how manieth day of refusals the address is given up; 0: never
    [
        ("5.1.1", 1),
        ("5.1.2", 1),
        ("5.1.3", 1),
        ("5.1.10", 1),
        ("5.1.0", 3),
        ("5.1.6", 3),
        ("5.2.1", 3),
        ("5.2.2", 3),
        ("5.3.0", 3),
        ("5.4.1", 3),
        ("5.1.11", 3),
        ("550", 3),
        ("551", 3),
        ("5.1.7", 0),  # our sender
        ("5.1.8", 0),
        ("5.5.2", 0),  # our protocol
        ("5.7.1", 0),  # they do not want us
        ("5.7.26", 0),
    ],
)
def test_an_address_is_given_up_at_once_or_on_the_third_day_or_never(status: str, days: int) -> None:
    given_up = [day for day in range(1, 40) if bounces.is_bounced(status, day)]
    assert given_up == (list(range(days, 40)) if days else [])
    assert bounces.counts(status) == bool(days)


def test_only_a_final_no_about_the_recipient_says_something_of_the_address() -> None:
    refused = aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(550, "5.1.1 no", "a@b.no")])
    no = answer(refused, None)
    assert isinstance(no, Never)
    assert no.status == "5.1.1"
    spam = answer(aiosmtplib.SMTPDataError(550, "5.1.1 no"), None)
    assert isinstance(spam, Never)
    assert spam.status is None


def refused(code: int, text: str) -> Later | Never:
    return answer(aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(code, text, "a@b.no")]), None)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (530, "5.7.0 Must issue a STARTTLS command first"),
        (530, "Authentication required"),
        (530, "5.5.1 Authentication Required"),
        (550, "5.7.1 Unable to relay"),
        (554, "5.7.1 <kari@example.no>: Relay access denied"),
        (554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using list.example"),
        (553, "5.1.8 <ikke-svar@kursnett.example>: Sender address rejected: Domain not found"),
        (550, "5.7.27 Sender address has null MX"),
        (550, "relay not permitted"),
        (550, "we do not relay for you"),
        (550, "authentication required"),
        (550, "Sender verify failed"),
        (554, "5.0.0 Your IP is on a block list"),
        (550, "5.5.0 relaying denied"),
    ],
)
def test_a_no_that_is_about_us_is_not_final(code: int, text: str) -> None:
    no = refused(code, text)
    assert isinstance(no, Later)
    assert (no.reason, no.of_domain) == (f"answer_{code}", True)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (550, "5.1.1 no such user"),
        (550, "5.1.1 <kari@example.no>: Recipient address rejected: User unknown in relay recipient table"),
        (550, "<kari@example.no>: Recipient address rejected: User unknown in relay recipient table"),
        (550, "<kari@relay.example.no>: no such user"),
        (550, "5.2.1 mailbox disabled, your host may try another"),
        (550, "5.5.0 Requested action not taken: mailbox unavailable"),
        (550, "no such user"),
        (550, ""),
    ],
)
def test_a_no_to_the_recipient_is_final(code: int, text: str) -> None:
    assert isinstance(refused(code, text), Never)


def test_a_digest_is_keyed_the_same_for_large_letters_and_known_by_both_keys_of_a_pair() -> None:
    [digest] = bounces.digests(PRIVATE, "kari@example.no")
    assert bounces.digests(PRIVATE, "Kari@Example.NO") == [digest]
    assert bounces.digests(PRIVATE, "ola@example.no") != [digest]
    other, _ = sealing.generate()
    assert bounces.digests(other, "kari@example.no") != [digest]
    pair = other.replace('"keys": [', '"keys": [').rstrip().removesuffix("]}") + ", " + PRIVATE.partition("[")[2]
    assert bounces.digests(pair, "kari@example.no")[1] == digest

"""An address whose domain was read before is read as the library reads it whole."""

from itertools import product

import pytest
from email_validator import EmailNotValidError, validate_email

from kit import addresses

LOCALS = (
    "kari",
    "Kari.Nes+kurs",
    "a" * 64,
    "a" * 65,
    ".a",
    "a.",
    "a..b",
    "kåre",
    '"a b"',
    "a b",
    "",
    "a@b",
    "Kari <a",
    "o'nes",
)
DOMAINS = (
    *("example.no", "Example.NO", "bø.no", "xn--b-5ga.no", "no", "example..no", "-a.no", "a_b.no", "[127.0.0.1]"),
    *("example.no>", "example.no ", "", "skole.test", "localhost", "a" * 64 + ".no", ".".join(["a" * 60] * 4) + ".no"),
)


def whole(text: str, *, smtputf8: bool, test_domains: bool) -> str | None:
    try:
        found = validate_email(text, check_deliverability=False, allow_smtputf8=smtputf8, test_environment=test_domains)
    except EmailNotValidError:
        return None
    return found.ascii_email or found.normalized


@pytest.mark.parametrize(("smtputf8", "test_domains"), [(False, False), (True, True)])
def test_every_address_is_read_as_the_library_reads_it(smtputf8: bool, test_domains: bool) -> None:
    """Red control: with locals of any signs, `a b@example.no` is taken."""
    read = 0
    for local, domain in [*product(LOCALS, DOMAINS), *product(LOCALS, DOMAINS)]:  # known domains too
        text = f"{local}@{domain}"
        try:
            found = addresses.usual(text, smtputf8=smtputf8, test_domains=test_domains)
        except EmailNotValidError:
            found = None
        assert found == whole(text, smtputf8=smtputf8, test_domains=test_domains), text
        read += found is not None
    assert read > 20

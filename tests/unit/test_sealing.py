"""A letter is opened by whom it is for, as it was, and by nobody else."""

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey

from kit import sealing
from kit.sealing import Unsealable, generate, seal, unseal

LETTER = {"email": "kari@example.no", "name": "Kari Åsnes", "language": "nb"}


def both(first: str, second: str) -> str:
    return json.dumps({"keys": json.loads(first)["keys"] + json.loads(second)["keys"]})


def test_only_the_private_key_opens_a_letter() -> None:
    private, public = generate()
    sealed = seal(public, LETTER)
    assert unseal(private, sealed) == LETTER
    assert "kari" not in sealed
    with pytest.raises(Unsealable):
        unseal(public, sealed)
    other, _ = generate()
    with pytest.raises(Unsealable, match="unknown_key"):
        unseal(other, sealed)


def test_the_public_half_holds_no_private_number() -> None:
    private, public = generate()
    assert "d" in json.loads(private)["keys"][0]
    assert "d" not in json.loads(public)["keys"][0]


def test_keys_rotate_in_pairs() -> None:
    old_private, old_public = generate()
    new_private, new_public = generate()
    before = seal(old_public, LETTER)
    after = seal(both(new_public, old_public), LETTER)
    rotated = both(new_private, old_private)
    assert unseal(rotated, before) == unseal(rotated, after) == LETTER
    assert unseal(new_private, after) == LETTER


@pytest.mark.parametrize("part", range(5))
def test_a_changed_letter_is_refused(part: int) -> None:
    private, public = generate()
    parts = seal(public, LETTER).split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=="))
    raw[len(raw) // 2] ^= 1
    parts[part] = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(Unsealable):
        unseal(private, ".".join(parts))


def test_another_algorithm_is_refused() -> None:
    private, public = generate()
    kid = json.loads(public)["keys"][0]["kid"]
    secret = OctKey.import_key("x" * 32)
    header = {"alg": "A256KW", "enc": "A256GCM", "kid": kid}
    sealed = jwe.encrypt_compact(header, json.dumps(LETTER).encode(), secret, algorithms=["A256KW", "A256GCM"])
    with pytest.raises(Unsealable):
        unseal(private, sealed)


@given(st.text())
def test_no_text_breaks_the_opening(text: str) -> None:
    with pytest.raises(Unsealable):
        unseal(PRIVATE, text)


PRIVATE, _ = generate()


def test_a_bad_key_file_is_told() -> None:
    for text in ("", "{}", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4"}]}'):
        with pytest.raises(Unsealable, match="bad_key_set"):
            seal(text, LETTER)


ALGORITHMS = ["ECDH-ES+A256KW", "A256GCM"]


def key_of(text: str) -> ECKey:
    return ECKey.import_key(json.loads(text)["keys"][0])


def header_of(sealed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(sealed.split(".")[0] + "=="))
    return found


def test_another_library_opens_what_is_sealed_here_and_the_other_way_about() -> None:
    private, public = generate()
    opened = jwe.decrypt_compact(seal(public, LETTER), key_of(private), algorithms=ALGORITHMS)
    assert json.loads(opened.plaintext or b"") == LETTER
    header = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "kid": key_of(public).kid}
    theirs = jwe.encrypt_compact(header, json.dumps(LETTER).encode(), key_of(public), algorithms=ALGORITHMS)
    assert unseal(private, theirs) == LETTER


def test_letters_of_one_minute_share_a_half_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = generate()
    now = 1000.0
    monkeypatch.setattr("kit.sealing.time.monotonic", lambda: now)
    first, second = seal(public, LETTER), seal(public, LETTER)
    assert header_of(first) == header_of(second)
    assert all(a != b for a, b in zip(first.split(".")[1:], second.split(".")[1:], strict=True))
    now += sealing.SENDER_S + 1
    third = seal(public, LETTER)
    assert header_of(third)["epk"] != header_of(first)["epk"]
    assert [unseal(private, one) for one in (first, second, third)] == [LETTER] * 3


@pytest.mark.parametrize(
    "changed",
    [
        {"crit": ["exp"], "exp": 0},
        {"zip": "DEF"},
        {"apu": "eA"},
        {"enc": "A128GCM"},
        {"alg": "ECDH-ES"},
        {"epk": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}},
        {"epk": {"kty": "oct", "k": "AQ"}},
        {"epk": None},
        {"kid": None},
    ],
    ids=str,
)
def test_a_header_that_says_anything_else_is_refused(changed: dict[str, Any]) -> None:
    private, public = generate()
    head, *rest = seal(public, LETTER).split(".")
    said = base64.urlsafe_b64encode(json.dumps(header_of(head + ".") | changed).encode()).rstrip(b"=").decode()
    with pytest.raises(Unsealable):
        unseal(private, ".".join([said, *rest]))


def changed(text: str, **fields: Any) -> str:
    """The key set with its first key's fields as these; one that is None is left out."""
    first, *others = json.loads(text)["keys"]
    kept = {name: value for name, value in (first | fields).items() if value is not None}
    return json.dumps({"keys": [kept, *others]})


_, PUBLIC = generate()
OTHER = json.loads(generate()[1])["keys"][0]
NO_KEY_SETS = ("", "{}", "[]", "null", '{"keys": []}', '{"keys": [null]}', '{"keys": ["EC"]}')
WRONG_FIELDS: tuple[dict[str, Any], ...] = (
    {"x": OTHER["x"]},  # a point that is not on the curve
    {"x": "", "y": ""},
    {"x": "not base64!"},
    {"x": 5},
    {"y": None},
    {"crv": "P-384"},
    {"crv": None},
    {"kty": "oct"},
)


@pytest.mark.parametrize(
    "text", [*NO_KEY_SETS, *(changed(PUBLIC, **fields) for fields in WRONG_FIELDS), PRIVATE, both(PUBLIC, PRIVATE)]
)
def test_what_cannot_seal_is_no_public_key_set(text: str) -> None:
    sealing.check_public(PUBLIC)
    with pytest.raises(Unsealable, match="bad_key_set"):
        sealing.check_public(text)


@pytest.mark.parametrize(
    "text",
    [*NO_KEY_SETS, *(changed(PRIVATE, **fields) for fields in WRONG_FIELDS), changed(PRIVATE, d=OTHER["x"]), PUBLIC],
)
def test_what_cannot_open_is_no_private_key_set(text: str) -> None:
    sealing.check_private(PRIVATE)
    with pytest.raises(Unsealable, match="bad_key_set"):
        sealing.check_private(text)


def test_a_public_key_is_checked_without_the_libraries() -> None:
    """They take 14 MB, which a service that has sealed nothing yet does not need."""
    looked = "import sys; from kit import sealing; sealing.check_public(sys.argv[1]); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", looked, PUBLIC], capture_output=True, text=True, check=True)
    assert not {"cryptography", "joserfc"} & set(loaded.stdout.split())

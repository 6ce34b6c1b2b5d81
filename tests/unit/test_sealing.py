import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import OctKey

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

"""The application's encryption: what must be refused, and keys in their spellings."""

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.foreign.cipher import AesGcm, KeyInvalid
from daemon.domain.layout import Encoding, Encryption, RowInvalid
from daemon.domain.secret import Secret

RAW = bytes(range(7, 39))
JSON = Encryption(form="json:encrypted,iv,authTag")
COLONS = Encryption(form="iv:authTag:ciphertext", encoding=Encoding.BASE64)


def cipher(encryption: Encryption = JSON, key: str = RAW.hex()) -> AesGcm:
    return AesGcm(encryption, Secret(key))


def altered(cell: object, **parts: object) -> str:
    found = {**json.loads(str(cell)), **parts}
    return json.dumps({name: value for name, value in found.items() if value is not None})


@given(st.text(st.characters(codec="utf-8"), max_size=50), st.sampled_from([JSON, COLONS]))
def test_what_is_sealed_opens(text: str, encryption: Encryption) -> None:
    sealed = cipher(encryption).seal(text, like=None)
    assert cipher(encryption).open(sealed) == text
    assert cipher(encryption).open(cipher(encryption).seal(text, like=sealed)) == text


@pytest.mark.parametrize(
    "key", [RAW.hex(), RAW.hex().upper(), b64encode(RAW).decode(), b64encode(RAW).decode().rstrip("=")]
)
def test_a_key_may_be_written_in_either_way(key: str) -> None:
    assert cipher(key=key).open(cipher().seal("text", like=None)) == "text"


@pytest.mark.parametrize(
    "key", ["", "short", RAW.hex()[:-2], RAW.hex() + "00", "x" * 64, b64encode(RAW[:31]).decode()]
)
def test_what_is_no_key_is_refused_without_being_quoted(key: str) -> None:
    with pytest.raises(KeyInvalid) as refused:
        cipher(key=key)
    assert not key or key not in str(refused.value)


def test_a_key_of_characters_is_its_bytes() -> None:
    encryption = Encryption(form="json:encrypted,iv,authTag", key=Encoding.TEXT)
    text = "0123456789abcdefghijklmnopqrstuv"
    sealed = cipher(encryption, text).seal("text", like=None)
    assert cipher(key=text.encode().hex()).open(sealed) == "text"


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (None, "is not a text"),
        (7, "is not a text"),
        ("at-1 in the clear", "is not a JSON text"),
        ("[]", "is not a JSON object"),
        ({"authTag": "00" * 4}, "has a tag of 4 bytes"),
        ({"authTag": "00" * 15}, "has a tag of 15 bytes"),
        ({"authTag": None}, "is not a text"),
        ({"iv": "00" * 8}, "has a nonce of 8 bytes"),
        ({"iv": "00" * 13}, "has a nonce of 13 bytes instead of 12 or 16"),
        ({"iv": "zz" * 12}, "is not hex"),
        ({"encrypted": "0"}, "is not hex"),
        ({"authTag": "00" * 16}, "does not open with this key"),
        ({"iv": "00" * 12}, "does not open with this key"),
    ],
    ids=str,
)
def test_what_does_not_open_is_refused_in_one_clause(cell: object, why: str) -> None:
    sealed = cipher().seal("canary", like=None)
    with pytest.raises(RowInvalid, match=why):
        cipher().open(altered(sealed, **cell) if isinstance(cell, dict) else cell)


@pytest.mark.parametrize("cell", ["a:b", "a:b:c:d", "!:!:!", "AAAA:AAAA:AAAA", ""])
def test_parts_that_are_missing_or_damaged_are_refused(cell: str) -> None:
    with pytest.raises(RowInvalid):
        cipher(COLONS).open(cell)


def test_the_alphabet_and_the_other_fields_of_a_cell_stay() -> None:
    """Upper case, spaces after the colon, a version that the application stores beside."""
    old = {**json.loads(str(cipher().seal("a", like=None))), "v": 2}
    new = str(cipher().seal("b", like=json.dumps(old)))
    assert json.loads(new)["v"] == 2
    assert '": ' in new
    assert '": ' not in str(cipher().seal("b", like=json.dumps(old, separators=(",", ":"))))


@pytest.mark.parametrize(
    "form", ["json:data,iv,auth_tag", "object:data,iv,auth_tag", "iv:tag:data", "iv+data+tag"]
)
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("alphabet", ["+/", "-_"])
def test_the_alphabet_of_base64_and_its_padding_stay(form: str, alphabet: str, padded: bool) -> None:
    """Some readers take one alphabet only. An underscore in a part's name says nothing about it."""
    sizes = {"iv": 16, "data": 41, "tag": 16, "auth_tag": 16}
    kind, _, names = form.partition(":")

    def text(raw: bytes) -> str:
        encoded = b64encode(raw).decode().translate(str.maketrans("+/", alphabet))
        return encoded if padded else encoded.rstrip("=")

    old: object
    if kind in ("json", "object"):
        parts = {name: text(b"\xff" * sizes[name]) for name in names.split(",")}
        old = json.dumps(parts) if kind == "json" else parts
    else:
        old = text(b"\xff" * 73) if "+" in form else ":".join(text(b"\xff" * n) for n in (16, 16, 41))
    one = cipher(Encryption(form=form, encoding=Encoding.BASE64, iv_bytes=16))
    written = [one.seal("b" * 41, like=old) for _ in range(20)]
    assert {one.open(cell) for cell in written} == {"b" * 41}
    cells = [json.loads(str(cell)) if kind == "json" else cell for cell in written]
    texts = "".join("".join(cell.values()) if isinstance(cell, dict) else str(cell) for cell in cells)
    assert set(alphabet) <= set(texts)
    assert not (set("+/-_") - set(alphabet)) & set(texts)
    assert ("=" in texts) is padded


@pytest.mark.parametrize("noise", ["!", " ", "\n", "=", "+", "é"])
def test_base64_with_anything_else_in_it_is_refused(noise: str) -> None:
    """Also in the alphabet of URLs, whose decoder would pass over it."""
    nonce, tag, data = str(cipher(COLONS).seal("canary" * 9, like=None)).split(":")
    for text in (f"-{noise}{data}", f"{data[:8]}{noise}-{data[8:]}"):
        with pytest.raises(RowInvalid, match=r"is not base64|does not open"):
            cipher(COLONS).open(f"{nonce}:{tag}:{text}")


def test_a_context_that_differs_does_not_open() -> None:
    one, other = (Encryption(form="json:encrypted,iv,authTag", aad=aad) for aad in ("a", "b"))
    with pytest.raises(RowInvalid):
        cipher(other).open(cipher(one).seal("text", like=None))

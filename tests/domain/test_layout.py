"""A layout reads a row and writes it back: with the same names, the same types, and all that it does not know."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.layout import ALL, FILE, NAME, Layout, Row, RowInvalid, SourceKind, TimeForm, Values
from daemon.domain.layout_reading import key_of, read
from daemon.domain.layout_writing import placed, write
from daemon.domain.secret import Secret

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ENDS = NOW + timedelta(minutes=30)
MS = int(ENDS.timestamp() * 1000)
FILES = Layout(
    name="files",
    title="",
    source=SourceKind.JSON,
    provider=(FILE,),
    account=(NAME,),
    access_token=("accessToken", "access_token"),
    refresh_token=("refreshToken", "refresh_token"),
    scope=("scope",),
    expires_at=("expiresAt", "expires_at"),
)
ROWS = replace(
    FILES,
    source=SourceKind.POSTGRESQL,
    provider=("service",),
    providers={"gmail": "google"},
    account=("user",),
)
Cells = dict[str, Any]


def values(number: int = 2, **more: Any) -> Values:
    known: Cells = {
        "provider": "xero",
        "account": "company-7",
        "access_token": Secret(f"at-{number}"),
        "refresh_token": Secret(f"rt-{number}"),
        "issued_at": NOW,
        "expires_at": ENDS,
    }
    return Values(**{**known, **more})


def row(**cells: Any) -> Row:
    return Row(cells=cells, name="company-7", file="xero")


class Reversed:
    """A stand-in for a cipher: an encrypted text is the text backwards, behind a mark."""

    def open(self, cell: object) -> str:
        if not isinstance(cell, str) or not cell.startswith("!"):
            raise RowInvalid("does not open with this key")
        return cell[:0:-1]

    def seal(self, text: str, *, like: object) -> object:
        return "!" + text[::-1]


ENCRYPTED: Any = replace(ROWS, encryption=None)


# ---------------------------------------------------------------- reading


def test_a_row_of_a_file_is_named_by_its_place() -> None:
    """The account by its name, the provider by its file."""
    found = read(FILES, row(accessToken="at-1", refreshToken="rt-1", expiresAt=MS), None, now=NOW)
    assert (found.key, found.provider, found.account) == ("xero:company-7", "xero", "company-7")
    assert found.body == {"access_token": "at-1", "refresh_token": "rt-1", "expires_at": MS}
    assert found.ignored == ()


def test_a_word_of_the_application_stands_for_a_provider() -> None:
    found = read(ROWS, row(service="gmail", user=7.0, access_token="a"), None, now=NOW)
    assert (found.key, found.provider, found.account) == ("gmail:7", "google", "7")


@pytest.mark.parametrize("account", [None, True, "", {}, [], 7.5])
def test_a_row_without_an_account_is_refused(account: object) -> None:
    with pytest.raises(RowInvalid, match="'user' names no account"):
        key_of(ROWS, row(service="gmail", user=account))


def test_a_row_without_a_provider_is_refused() -> None:
    with pytest.raises(RowInvalid, match="'service' names no provider"):
        read(ROWS, row(user="7"), None, now=NOW)


@pytest.mark.parametrize(
    "name", ["expiry_date", "expires_on", "expiresAt", "expiryDate", "expires", "token_expiry", "validUntil"]
)
def test_the_names_that_libraries_write_are_understood(name: str) -> None:
    """They reach the reading of a token response, which knows them; the row's other fields are told apart."""
    found = read(FILES, row(accessToken="a", apiDomain="x", **{name: MS}), None, now=NOW)
    assert MS in (found.body.get(name), found.body.get("expires_at"))
    assert found.ignored == ("apiDomain",)


def test_every_text_of_an_object_becomes_a_note_unless_it_has_a_path_of_its_own() -> None:
    layout = replace(FILES, meta={ALL: "more", "domain": "apiDomain"}, vars={ALL: "more.vars"})
    more = {"domain": "older", "number": 7, "a b": "x", "none": None, "vars": {"region": "eu", "list": []}}
    found = read(layout, row(accessToken="a", apiDomain="newer", more=more), None, now=NOW)
    assert found.meta == {"domain": "newer", "number": "7"}
    assert found.vars == {"region": "eu"}
    assert found.ignored == ()
    token = values(meta={"domain": "d", "x": "y"}, vars={"region": "eu"})
    written = write(layout, None, token, None, now=NOW)
    assert (written["apiDomain"], written["more"]) == ("d", {"x": "y", "vars": {"region": "eu"}})
    assert "more" not in write(layout, None, values(), None, now=NOW)


@pytest.mark.parametrize("more", [None, "text", [], 7])
def test_what_is_no_object_holds_no_notes(more: object) -> None:
    layout = replace(FILES, meta={ALL: "more"})
    assert read(layout, row(accessToken="a", more=more), None, now=NOW).meta == {}


# ---------------------------------------------------------------- writing


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        max_size=6,
    )
)
def test_a_row_whose_token_has_not_changed_is_that_very_row(more: Cells) -> None:
    """Whatever else it holds."""
    cells = {**more, "accessToken": "at-2", "refreshToken": "rt-2"}
    assert write(FILES, cells, values(), None, now=NOW) is cells


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: "token" not in name.lower()),
        st.integers(),
        max_size=6,
    )
)
def test_a_changed_token_changes_nothing_that_is_not_its_own(more: Cells) -> None:
    own = {"accessToken", "refreshToken", "expiresAt"}
    cells = {**more, "accessToken": "at-1", "refreshToken": "rt-1", "expiresAt": 1}
    written = write(FILES, cells, values(), None, now=NOW)
    times = {name for name in more if written[name] != more[name]}
    assert {name: written[name] for name in more if name not in own | times} == {
        name: value for name, value in more.items() if name not in own | times
    }
    assert (written["accessToken"], written["refreshToken"]) == ("at-2", "rt-2")
    assert list(written)[: len(cells)] == list(cells)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (1767225600000, MS),
        (1767225600, MS // 1000),
        (1767225600.5, float(MS // 1000)),
        (1767225600000.0, float(MS)),
        ("1767225600000", str(MS)),
        ("1767225600", str(MS // 1000)),
        ("2026-01-01T00:00:00.000Z", "2026-11-29T12:30:00.000Z"),
        ("2026-01-01T00:00:00Z", "2026-11-29T12:30:00Z"),
        ("2026-01-01T00:00:00+00:00", "2026-11-29T12:30:00+00:00"),
        ("2026-01-01 02:00:00.123456+02", "2026-11-29 12:30:00.000000+00"),
        ("2026-01-01 00:00:00", "2026-11-29 12:30:00"),
        ("Thu, 01 Jan 2026 00:00:00 GMT", "Sun, 29 Nov 2026 12:30:00 GMT"),
        (datetime(2026, 1, 1, tzinfo=UTC), ENDS),
        (datetime(2026, 1, 1), ENDS.replace(tzinfo=None)),  # noqa: DTZ001  an application's own
        (None, MS),
    ],
    ids=str,
)
def test_a_date_keeps_its_form(old: object, new: object) -> None:
    """Seconds stay seconds, a text stays a text with as many digits, and the type stays the type."""
    cells = {"accessToken": "at-1", "refreshToken": "rt-1", "expiresAt": old}
    written = write(FILES, cells, values(), None, now=NOW)["expiresAt"]
    assert (written, type(written)) == (new, type(new))


def test_the_style_of_a_row_decides_what_a_new_field_is_called() -> None:
    camel = write(FILES, {"accessToken": "at-1", "refreshToken": "rt-1"}, values(), None, now=NOW)
    snake = write(FILES, {"access_token": "at-1", "refresh_token": "rt-1"}, values(), None, now=NOW)
    assert set(camel) == {"accessToken", "refreshToken", "expiresAt"}
    assert set(snake) == {"access_token", "refresh_token", "expires_at"}


def test_a_relative_end_is_counted_from_the_birth_that_the_row_names() -> None:
    cells = {"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 60, "created_at": 1767225600}
    written = write(FILES, cells, values(), None, now=NOW + timedelta(minutes=10))
    assert (written["expires_in"], written["created_at"]) == (1800, int(NOW.timestamp()))
    alone = write(FILES, {**cells, "created_at": None}, values(), None, now=NOW + timedelta(minutes=10))
    assert alone["expires_in"] in (1200, 1800)


def test_an_end_that_is_unknown_is_no_date() -> None:
    cells = {"accessToken": "at-1", "refreshToken": "rt-1", "expiresAt": 1767225600000}
    assert write(FILES, cells, values(expires_at=None), None, now=NOW)["expiresAt"] is None


def test_nested_fields_are_written_where_they_stand_and_the_old_row_is_not_touched() -> None:
    layout = replace(FILES, access_token=("c.access",), refresh_token=("c.refresh",), expires_at=("c.ends",))
    cells = {"c": {"access": "at-1", "refresh": "rt-1", "ends": 1767225600, "raw": {"x": 1}}, "id": 7}
    written = write(layout, cells, values(), None, now=NOW)
    assert written == {
        "c": {"access": "at-2", "refresh": "rt-2", "ends": MS // 1000, "raw": {"x": 1}},
        "id": 7,
    }
    assert cells["c"]["access"] == "at-1"


def test_a_scope_that_was_a_list_stays_one() -> None:
    cells = {"accessToken": "at-1", "refreshToken": "rt-1", "scope": ["a"]}
    assert write(FILES, cells, values(scope="a b"), None, now=NOW)["scope"] == ["a", "b"]


def test_an_encrypted_cell_is_replaced_only_if_its_text_differs() -> None:
    from daemon.domain.layout import Encryption

    layout = replace(ROWS, encryption=Encryption(form="iv:tag:data"))
    cells = {"service": "gmail", "user": "7", "access_token": "!1-ta", "refresh_token": "!2-tr"}
    written = write(layout, cells, values(), Reversed(), now=NOW)
    assert (written["access_token"], written["refresh_token"]) == ("!2-ta", "!2-tr")
    found = read(layout, Row(cells=written), Reversed(), now=NOW)
    assert (found.body["access_token"], found.body["refresh_token"]) == ("at-2", "rt-2")
    with pytest.raises(RowInvalid, match="'access_token' does not open with this key"):
        read(layout, Row(cells={**cells, "access_token": "clear"}), Reversed(), now=NOW)
    with pytest.raises(RowInvalid, match="--key-env"):
        read(layout, Row(cells=cells), None, now=NOW)


# ---------------------------------------------------------------- new rows


@pytest.mark.parametrize("form", list(TimeForm))
def test_a_new_row_can_be_read_back(form: TimeForm) -> None:
    for layout, provider in ((FILES, "xero"), (ROWS, "google")):
        token = values(provider=provider)
        cells = write(replace(layout, time=form), None, token, None, now=NOW)
        found = read(layout, placed(layout, token, cells), None, now=NOW)
        assert (found.provider, found.account) == (provider, "company-7")
        assert found.body["refresh_token"] == "rt-2"


def test_a_new_row_names_its_provider_in_the_applications_words() -> None:
    assert write(ROWS, None, values(provider="google"), None, now=NOW)["service"] == "gmail"
    assert write(ROWS, None, values(provider="xero"), None, now=NOW)["service"] == "xero"

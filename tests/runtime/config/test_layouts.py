"""Layout files: every fault is named with its key and its remedy; the shipped ones are right."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.layout import FILE, NAME, Layout, Row, SourceKind, Values
from daemon.domain.layout_reading import read
from daemon.domain.layout_writing import write
from daemon.domain.secret import Secret
from daemon.runtime.config.layouts import (
    LayoutTable,
    OptionInvalid,
    laid_over,
    read_layout,
    read_layouts,
    shipped_layouts,
)
from daemon.runtime.config.problems import Findings, SettingsInvalid

LEAST: dict[str, Any] = {"source": "mongodb", "account": "user", "access_token": "at", "refresh_token": "rt"}
CIPHER = {"name": "aes-256-gcm", "form": "iv:tag:data"}


def test_the_shipped_layouts_are_those_that_were_promised() -> None:
    assert set(shipped_layouts()) == {
        "token-files",
        "encrypted-mongodb",
        "encrypted-postgresql",
        "jsonl",
        "nango",
    }
    assert all(layout.title for layout in shipped_layouts().values())


def test_a_layout_needs_little() -> None:
    layout = read_layout("mine", LEAST)
    assert (layout.account, layout.provider, layout.provider_name, layout.encryption) == (
        ("user",),
        (),
        None,
        None,
    )


@pytest.mark.parametrize(
    ("change", "key", "what"),
    [
        ({"source": "mysql"}, "source", "is not one of the possible values"),
        ({"acount": "x"}, "acount", "unknown key"),
        ({"account": ""}, "account", "must be a non-empty string"),
        ({"account": "a..b"}, "account", "is not a path"),
        ({"account": "@entry"}, "account", "begins with @"),
        ({"account": NAME}, "account", '"@name" is for source = "json" only'),
        ({"account": FILE, "source": "json"}, "account", "can't be the account"),
        ({"scope": NAME}, "scope", "hold no such value"),
        ({"provider": {"at": FILE}}, "provider.at", "is for files only"),
        ({"provider": "Xero!"}, "provider", "is not a provider's name"),
        ({"provider": {"names": {}}}, "provider.at", "is required"),
        ({"provider": {"at": "p", "names": {"x": "X!"}}}, "provider.names.x", "is not a provider's name"),
        ({"rows": "data"}, "rows", "only"),
        ({"table": "t"}, "table", "only"),
        ({"source": "jsonl", "collection": "c"}, "collection", "only"),
        ({"time": "minutes"}, "time", "is not one of the possible values"),
        ({"meta": {"a b": "x"}}, "meta.a b", "is not a valid name"),
        ({"source": "postgresql", "vars": {"*": "x"}}, "vars.*", "leads to an object"),
        ({"cipher": {**CIPHER, "name": "rot13"}}, "cipher.name", "is not a cipher"),
        (
            {"cipher": {**CIPHER, "form": "iv:data"}},
            "cipher.form",
            "does not name a nonce, a tag and a ciphertext",
        ),
        ({"cipher": {**CIPHER, "form": "json:a,b,c"}}, "cipher.form", "does not name"),
        ({"cipher": {**CIPHER, "encoding": "text"}}, "cipher.encoding", "for the key only"),
        ({"cipher": {**CIPHER, "iv_bytes": 8}}, "cipher.iv_bytes", "is not a length of a nonce"),
        ({"cipher": {**CIPHER, "fields": ["scope"]}}, "cipher.fields", "no path for"),
    ],
    ids=str,
)
def test_every_fault_is_named(change: dict[str, Any], key: str, what: str) -> None:
    with pytest.raises(SettingsInvalid) as invalid:
        read_layout("mine", {**LEAST, **change}, file="mine.toml")
    (problem,) = invalid.value.problems
    assert problem.where == f"mine.toml: {key}"
    assert what in problem.what
    assert problem.do.endswith((".", "?"))


def test_the_operators_own_take_precedence_and_broken_ones_are_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "mine.toml").write_text(
        'source = "jsonl"\naccount = "a"\naccess_token = "b"\nrefresh_token = "c"\n'
    )
    (tmp_path / "jsonl.toml").write_text(
        'source = "jsonl"\naccount = "z"\naccess_token = "b"\nrefresh_token = "c"\n'
    )
    (tmp_path / "Bad Name.toml").write_text("")
    (tmp_path / "broken.toml").write_text("source = ")
    (tmp_path / ".hidden.toml").write_text("source = ")
    findings = Findings("config.toml")
    found = read_layouts(tmp_path, findings)
    assert (found["mine"].account, found["jsonl"].account) == (("a",), ("z",))
    assert len(findings.problems) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"collection": "c"}, "does not read a MongoDB collection"),
        ({"maps": ["integration.gmail"]}, "is not FIELD.VALUE=NAME"),
        (
            {"maps": ["service.gmail=google"]},
            "is not a field that names the provider. Use one of: integration, meta, vars",
        ),
        ({"maps": ["integration.gmail=Goo gle"]}, "is not a provider's name"),
        ({"maps": ["meta.a b=c"]}, "is not a valid name"),
        ({"provider_name": "X"}, "is not a provider's name"),
    ],
    ids=str,
)
def test_an_option_that_does_not_fit_is_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionInvalid, match=said):
        laid_over(shipped_layouts()["encrypted-postgresql"], **options)


def test_options_are_laid_over_a_layout() -> None:
    layout = laid_over(
        shipped_layouts()["encrypted-postgresql"],
        maps=["integration.gmail=google", "integration.outlook=microsoft", "meta.domain=apiDomain"],
        table="app.tokens",
    )
    assert layout.providers == {"gmail": "google", "outlook": "microsoft"}
    assert (layout.meta["domain"], layout.table) == ("apiDomain", "app.tokens")
    fixed = laid_over(shipped_layouts()["token-files"], provider_name="xero")
    assert (fixed.provider_name, fixed.provider) == ("xero", ())


def test_every_field_of_a_layout_can_be_written_in_a_file() -> None:
    """No key of the domain is out of reach, and none of the file leads nowhere."""
    keys = {one.name for one in fields(LayoutTable)}
    domain = {one.name for one in fields(Layout)}
    assert domain - keys == {"name", "provider_name", "providers", "encryption"}
    assert keys - domain == {"cipher"}
    assert set(SourceKind) == {"json", "jsonl", "mongodb", "postgresql"}


def test_our_own_lines_hold_every_value() -> None:
    """What an export writes, an import reads: all of it but the time of the consent, which is not stored."""
    layout = shipped_layouts()["jsonl"]
    at = datetime(2026, 11, 29, 12, 0, 0, 123000, tzinfo=UTC)
    values = Values(
        provider="xero",
        account="company-7",
        access_token=Secret("at-1"),
        refresh_token=Secret("rt-1"),
        token_type="Bearer",
        scope="a b",
        issued_at=at,
        expires_at=at + timedelta(minutes=30),
        last_used_at=at - timedelta(days=1),
        subject="user-1",
        meta={"tenant": "acme", "note": "Zo\u00eb"},
        vars={"region": "eu"},
    )
    cells = write(layout, None, values, None, now=at)
    row = Row(cells=json.loads(json.dumps(cells)))
    found = read(layout, row, None, now=at)
    body = {"access_token": "at-1", "refresh_token": "rt-1", "token_type": "Bearer", "scope": "a b"}
    assert found.body == {**body, "expires_at": "2026-11-29T12:30:00.123Z"}
    assert (found.provider, found.account, found.subject) == ("xero", "company-7", "user-1")
    assert (found.issued_at, found.last_used_at) == (at, at - timedelta(days=1))
    assert (found.meta, found.vars, found.ignored) == (values.meta, values.vars, ())
    assert write(layout, row.cells, values, None, now=at) is row.cells

"""docs/providers.md: its table says what the definitions say, its lists name every key, and its example works."""

import hashlib
import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.answer import Answer, Granted, Misconfigured, Rejected, Unavailable
from daemon.domain.dialect import read
from daemon.domain.provider import Definition, Grant, IdleFrom, Provider, Rotation
from daemon.domain.reply import Reply
from daemon.domain.revocation import Revocation
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.runtime.config.providers.assertion_keys import AssertionTable
from daemon.runtime.config.providers.consent_keys import RevocationTable
from daemon.runtime.config.providers.definition_table import DefinitionTable, ShapeTable, VariableTable
from daemon.runtime.config.providers.definitions import read_definition, shipped
from daemon.runtime.config.providers.provider_settings import ProviderTable
from daemon.runtime.config.providers.sign_table import SignTable
from daemon.runtime.config.settings import load
from tests.support.environment import bare

DOCUMENT = "providers.md"
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / DOCUMENT).read_text()
NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)

Blocks = Callable[[str, str], list[str]]

# ---------------------------------------------------------------- the table of providers

ROTATION = {
    Rotation.NEVER: "stays",
    Rotation.SOMETIMES: "replaced if one comes",
    Rotation.ALWAYS: "replaced each time",
}
GRANTS = {
    Grant.EXCHANGE: "none: exchanged",
    Grant.CLIENT_CREDENTIALS: "none: reissued",
    Grant.JWT_BEARER: "none: reissued",
    Grant.NONE: "none: watched",
}


def row(known: Definition) -> str:
    """The line that the table must have for a definition."""
    cells = (
        known.name,
        known.title,
        "verified" if known.verified else "experimental",
        GRANTS.get(known.grant) or ROTATION[known.rotation],
        lost_reply(known),
        ends(known),
        limits(known),
        ", ".join(f"`{field}`" for field in known.keep),
    )
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def lost_reply(known: Definition) -> str:
    if known.grant is Grant.NONE:
        return ""
    if known.grant is not Grant.REFRESH_TOKEN or known.rotation is Rotation.NEVER:
        return "nothing"
    if known.grace_until_used:
        longest = f", at most {span(known.grace)}" if known.grace else ""
        return f"nothing until a new token is used{longest}"
    if known.grace:
        return f"nothing for {span(known.grace)}"
    return "the consent" if known.rotation is Rotation.ALWAYS else "perhaps the consent"


def ends(known: Definition) -> str:
    since = "unreplaced" if known.refresh_idle_from is IdleFrom.REPLACEMENT else "idle"
    idle = f"{since} {span(known.refresh_idle)}" if known.refresh_idle else ""
    consent = f"consent {span(known.refresh_lifetime)}" if known.refresh_lifetime else ""
    return ", ".join(filter(None, (idle, consent)))


def limits(known: Definition) -> str:
    confirmed = known.confirm_after if known.verified else None  # of the others the text says it
    told = (
        " and ".join(f"{rate.count} in {span(rate.per)}" for rate in known.rates),
        known.min_interval and f"{span(known.min_interval)} between two for one token",
        known.earliest and f"only in the last {span(known.earliest)}",
        known.renew_every and f"renewed every {span(known.renew_every)}",
        known.live_tokens and f"{known.live_tokens} live tokens",
        known.ends_previous and "a renewal ends the previous access token",
        known.retires and f"off from {known.retires}",
        known.max_age and f"to be replaced after {span(known.max_age)}",
        confirmed and f"dead after two rejections, {span(confirmed)} apart",
    )
    return "; ".join(filter(None, told))


def span(length: timedelta) -> str:
    """As a definition would write it."""
    for unit, size in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if not length % size and (unit != "d" or length > size):
            return f"{length // size}{unit}"
    return f"{length // timedelta(seconds=1)}s"


def section(number: int) -> str:
    return re.split(r"^## ", TEXT, flags=re.MULTILINE)[number]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_each_shipped_definition_has_its_row(name: str):
    """Whoever changes a definition changes this line too; the line is what the failure shows."""
    assert row(shipped()[name]) in TEXT.splitlines()


def test_the_tables_have_no_other_rows_and_keep_the_order():
    """A definition that goes takes its rows along."""
    tables = section(2).split("### Consents")
    rows = [re.findall(r"^\| ([a-z0-9-]+) \|", table, flags=re.MULTILINE) for table in tables]
    assert rows == [sorted(shipped()), sorted(shipped())]


def consent_row(known: Definition) -> str:
    """The line that the table of consents must have for a definition."""
    ways = [way for way, url in (("browser", known.authorize_url), ("device", known.device_url)) if url]
    cells = (
        known.name,
        ", ".join(ways) or "elsewhere",
        ", ".join(f"`{scope}`" for scope in known.scopes),
        f"`{known.account_from}`" if known.account_from else "",
        revoked(known),
    )
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def revoked(known: Definition) -> str:
    if known.grant.issues_anew:
        return ""
    if known.revoke_url is None and (known.revoke is None or known.revoke.url is None):
        return "by the owner"
    return {"grant": "the whole grant", "token": "this consent"}[(known.revoke or Revocation()).ends]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_each_shipped_definition_has_its_row_about_consents(name: str):
    """An operator sees there whether refreshd can ask for a consent, and end one."""
    assert consent_row(shipped()[name]) in TEXT.splitlines()


# ---------------------------------------------------------------- the lists of keys

LISTS = {
    "Key": (DefinitionTable, ""),
    "A sign's key": (SignTable, "[[unavailable]]\n"),
    "A key of `revoke`": (RevocationTable, 'revoke_url = "https://acme.example/revoke"\n[revoke]\n'),
    "A variable's key": (VariableTable, "[variables.region]\n"),
    "A key of `assertion`": (AssertionTable, "[assertion]\n"),
    "A key of `reply`": (ShapeTable, "[reply]\n"),
}
# Keys of signs that stand in another list than the other examples.
APART = {"alone": "rejected", "reach": "misconfigured", "tenant": "misconfigured"}
PLAIN = (
    'token_url = "https://${region}.acme.example/token"\nclient_auth = "post"\ndomains = ["acme.example"]\n'
)

VARIABLE = "variables.region.pattern = '[a-z]{2}'\n"


def listed(title: str) -> dict[str, str]:
    """The keys of one of section 3's tables, by the head of its first column, each with its example."""
    part = section(3).split(f"| {title} |")[1].split("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", part, flags=re.MULTILINE))


@pytest.mark.parametrize("title", LISTS)
def test_each_key_that_a_definition_may_have_is_explained(title: str):
    """And none that it may not have."""
    table, _ = LISTS[title]
    assert sorted(listed(title)) == sorted(field.name for field in fields(table))


@pytest.mark.parametrize("title", LISTS)
def test_the_examples_of_each_list_are_one_sound_piece_of_a_definition(title: str):
    """Read by the real schema, where each example must set its own key."""
    table, header = LISTS[title]
    examples = listed(title)
    for key, example in examples.items():
        assert list(tomllib.loads(example)) == [key]
    elsewhere = {key: examples.pop(key) for key in APART if table is SignTable}
    if table is DefinitionTable:  # for tokens that nothing renews
        read_definition("acme", tomllib.loads(f'{PLAIN}{VARIABLE}grant = "none"\n{examples.pop("max_age")}'))
    whole = "\n".join(example for key, example in examples.items() if key != "renew_every")
    if table is DefinitionTable:  # the one key that can't stand beside another one
        alone = "\n".join(example for key, example in examples.items() if key != "earliest")
        assert read_definition("acme", tomllib.loads(alone))
    else:
        plain = PLAIN if table is VariableTable else PLAIN.replace("${region}", "eu")
        whole = f"{plain}{header}{whole}\n"
    for key, example in elsewhere.items():
        test = examples["status"] if key == "alone" else f"{examples['field']}\n{examples['values']}"
        whole += f"[[{APART[key]}]]\n{test}\n{example}\n"
    assert read_definition("acme", tomllib.loads(whole))


def test_what_only_the_configuration_may_say_is_named():
    """The keys that are the operator's own."""
    own = {field.name for field in fields(ProviderTable)} - {field.name for field in fields(DefinitionTable)}
    assert {name for name in own if f"`{name}`" not in section(1)} == set()


def test_the_second_client_of_the_page_has_the_definition_of_the_first(tmp_path: Path, blocks: Blocks):
    """The block in a configuration, as it stands but for the path of its secret."""
    (text,) = [block for block in blocks(DOCUMENT, "toml") if "like =" in block]
    (secret, config) = (tmp_path / "secret", tmp_path / "config.toml")
    for file, content in ((secret, "s3cret"), (config, text.replace("/run/secrets/zoho-eu", str(secret)))):
        file.touch(mode=0o600)
        file.write_text(content)
    key = hashlib.sha256(b"for these tests").hexdigest()
    rest = {"STORE__URI": "embedded", "KEYS__ACTIVE": "a", "KEYS__RING__A": key}
    found = load(config, {f"REFRESHD_{name}": value for name, value in rest.items()}).providers["zoho-eu"]
    assert found.definition.variables["accounts-server"].default == "https://accounts.zoho.eu"
    assert found.definition.token_url == shipped()["zoho"].token_url


# ---------------------------------------------------------------- the example


def example(blocks: Blocks) -> Provider:
    (text,) = [block for block in blocks(DOCUMENT, "toml") if block.startswith("# acme.toml")]
    return Provider(definition=read_definition("acme", tomllib.loads(text)), client_id="me")


def answer(provider: Provider, body: str, status: int = 200) -> Answer:
    token = Token(id="acme:a", provider="acme", account="a", state=State.ACTIVE, refresh_token=Secret("rt"))
    reply = Reply(
        status=status,
        content_type="application/json",
        retry_after=None,
        body=body.encode(),
        whole=True,
        asked_at=NOW,
    )
    return read(provider, token, reply)


def test_the_examples_definition_says_what_its_page_says(blocks: Blocks):
    """Each sentence of the made-up page has become a key."""
    acme = example(blocks)
    known = acme.definition
    assert (known.verified, known.rotation, known.grace) == (False, Rotation.ALWAYS, timedelta())
    assert (known.access_lifetime, known.refresh_idle) == (timedelta(minutes=45), timedelta(days=30))
    assert isinstance(answer(acme, '{"result": "error", "reason": "token_expired"}'), Rejected)
    assert isinstance(answer(acme, '{"result": "error", "reason": "bad_app"}'), Misconfigured)
    busy = answer(acme, '{"result": "error", "reason": "busy"}')
    assert isinstance(busy, Unavailable)
    assert busy.retry_after == timedelta(minutes=1)
    granted = answer(acme, '{"access_token": "at", "refresh_token": "rt2", "ledger": {"id": 7}}')
    assert isinstance(granted, Granted)
    assert (granted.expires_at, granted.extra) == (NOW + timedelta(minutes=45), {"ledger_id": 7})


def test_what_the_page_does_not_name_condemns_nothing(blocks: Blocks):
    """An error that nobody foresaw is tried again."""
    assert isinstance(
        answer(example(blocks), '{"result": "error", "reason": "odd"}', status=400), Unavailable
    )


def test_the_steps_of_the_example_work_as_they_stand(
    mongod: str, database_name: str, tmp_path: Path, blocks: Blocks, write_files: Callable[..., list[str]]
):
    """From a file to a renewed token, at the sandbox: no code, and no definition but that file."""
    assert set(write_files(DOCUMENT, tmp_path)) == {"acme.toml", "trial.toml"}
    Path(tmp_path, "providers").mkdir()
    Path(tmp_path, "acme.toml").rename(tmp_path / "providers" / "acme.toml")
    command = Path(tmp_path, "bin", "refreshd")
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m daemon "$@"\n')
    command.chmod(0o755)
    environment = bare(
        command.parent,
        REFRESHD_CONFIG="trial.toml",
        REFRESHD_KEY=hashlib.sha256(b"for these tests").hexdigest(),
        REFRESHD_STORE__URI=mongod,
        REFRESHD_STORE__DATABASE=database_name,
        REFRESHD_SERVER__PORT="0",
    )
    steps = blocks(DOCUMENT, "sh")
    assert [step.split()[:2] for step in steps] == [["refreshd", "check"], ["curl", "-s"]]

    with running(command, "sandbox", cwd=tmp_path, environment=environment) as line:
        sandbox = json.loads(line)
        environment["ACME_CLIENT_SECRET"] = sandbox["client_secret"]
        environment["REFRESHD_PROVIDERS__ACME__TOKEN_URL"] = sandbox["token_url"]
        told = shell(steps[0], cwd=tmp_path, environment=environment)
        assert "1 warning; everything else that was checked is in order." in told
        assert "Acme Books (acme)" in told
        with running(command, "run", cwd=tmp_path, environment=environment):
            address = sandbox["url"].removeprefix("http://")
            told = shell(steps[1].replace("127.0.0.1:9466", address), cwd=tmp_path, environment=environment)
    assert told.splitlines()[-1] == "acme:try-1: renewed"


@contextmanager
def running(command: Path, *arguments: str, cwd: Path, environment: dict[str, str]) -> Iterator[str]:
    """A refreshd in the background; gives the first line that it prints."""
    with subprocess.Popen(
        [command, *arguments], cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def shell(step: str, *, cwd: Path, environment: dict[str, Any]) -> str:
    """What a block of the document prints; it must succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

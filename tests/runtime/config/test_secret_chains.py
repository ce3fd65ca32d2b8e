"""Where a secret can stand: what may be written, what a list falls back to, and that no problem shows a value."""

import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.domain.secret_reference import (
    AwsParameter,
    AwsSecret,
    AzureSecret,
    Command,
    GcpSecret,
    Reference,
    VaultSecret,
    source_name,
)
from daemon.runtime.config.access import load_access
from daemon.runtime.config.problems import SecretsAway, SettingsInvalid
from daemon.runtime.config.secret_chains import chain_of
from daemon.runtime.config.secret_places import STORE_ONLY, Use
from daemon.runtime.config.secret_reading import SecretReader
from daemon.runtime.config.settings import Settings, load
from tests.runtime.config.test_settings import CANARY, KEY, LEAST, RAW, Folder

Program = Callable[[str], str]
OTHER_KEY = "q5vO1cB7x0nq2J1m8o2K0xX9b1s5y3d7e9f1g3h5j7k="


class Store:
    """A secret store in memory, in the place of every source outside this machine."""

    def __init__(self, **secrets: str | Exception) -> None:
        self.secrets = secrets
        self.asked: list[str] = []

    async def __call__(self, reference: Reference) -> str:
        name = source_name(reference).partition(" ")[2]
        self.asked.append(name)
        found = self.secrets.get(name, SecretMissing("there is no such secret"))
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Make a program, and return its path as TOML."""

    def make(body: str) -> str:
        file = tmp_path / f"program-{len(list(tmp_path.iterdir()))}"
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o700)
        return json.dumps(str(file))

    return make


def loaded(folder: Folder, text: str, store: Store, reader: SecretReader | None = None, **more: object) -> Settings:  # fmt: skip
    folder.write(text)
    return load(folder.file, {}, reader=reader or SecretReader(ask=store), **more)  # type: ignore[arg-type]


def xero(secret: str) -> str:
    return f'{LEAST}\n[providers.xero]\nclient_id = "me"\nclient_secret = {secret}\n'


NOTATIONS = {
    "aws secret": ({"aws_secret": "prod/xero"}, AwsSecret(name="prod/xero")),
    "aws field": (
        {"aws_secret": "prod/xero", "field": "secret", "region": "eu-central-1"},
        AwsSecret(name="prod/xero", field="secret", region="eu-central-1"),
    ),
    "aws parameter": ({"aws_ssm": "/prod/xero"}, AwsParameter(name="/prod/xero")),
    "vault": ({"vault": "secret/apps/xero#client"}, VaultSecret(mount="secret", path="apps/xero", field="client")),
    "gcp": ({"gcp_secret": "projects/p/secrets/xero"}, GcpSecret(name="projects/p/secrets/xero")),
    "gcp version": (
        {"gcp_secret": "projects/p/secrets/xero/versions/3"},
        GcpSecret(name="projects/p/secrets/xero/versions/3"),
    ),
    "azure": (
        {"azure_secret": "https://v.vault.azure.net/secrets/xero"},
        AzureSecret(url="https://v.vault.azure.net/secrets/xero"),
    ),
    "command": (
        {"command": ["/bin/cat", "/x"], "timeout": "2s"},
        Command(argv=("/bin/cat", "/x"), timeout=timedelta(seconds=2)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTATIONS.values(), ids=NOTATIONS)
def test_a_source_has_one_notation(case: tuple[dict[str, object], Reference]):
    """The tables of the documentation, each alone and in a list."""
    value, reference = case
    for written in (value, [value]):
        chain = chain_of(written)
        assert chain is not None
        assert [step.source for step in chain.steps] == [reference]


FAULTS = {
    "two sources in one table": ('{ env = "A", aws_secret = "b" }', "supported form"),
    "an unknown source": ('{ keepass = "b" }', "supported form"),
    "an unknown key": ('{ aws_secret = "b", version = "1" }', "version"),
    "a field that is no text": ('{ aws_secret = "b", field = 1 }', "field must be"),
    "an empty name": ('{ aws_secret = " " }', "aws_secret must be"),
    "a region that is none": ('{ aws_ssm = "b", region = "EU (Frankfurt)" }', "region"),
    "vault without a field": ('{ vault = "secret/apps/xero" }', "mount/path#field"),
    "vault without a path": ('{ vault = "secret#field" }', "mount/path#field"),
    "vault with a way up": ('{ vault = "secret/../sys#field" }', "mount/path#field"),
    "gcp by a short name": ('{ gcp_secret = "xero" }', "resource name"),
    "azure without TLS": ('{ azure_secret = "http://v.vault.azure.net/secrets/x" }', "URL"),
    "azure with a password": ('{ azure_secret = "https://a:b@v.vault.azure.net/secrets/x" }', "URL"),
    "azure without a name": ('{ azure_secret = "https://v.vault.azure.net/" }', "URL"),
    "azure with a bad port": ('{ azure_secret = "https://v.vault.azure.net:x/secrets/x" }', "URL"),
    "a command line": ('{ command = "/bin/cat /x" }', "must be a list"),
    "a command without a program": ("{ command = [] }", "list of strings"),
    "a command with a number": ('{ command = ["/bin/cat", 1] }', "list of strings"),
    "a command by its name": ('{ command = ["cat"] }', "absolute path"),
    "a command that is not there": ('{ command = ["/nonexistent/cat"] }', "can't be run"),
    "a command that is a directory": ('{ command = ["/bin"] }', "can't be run"),
    "a command without a limit": ('{ command = ["/bin/cat"], timeout = "0s" }', "timeout"),
    "a command with a long limit": ('{ command = ["/bin/cat"], timeout = "1h" }', "timeout"),
    "a command with a number as limit": ('{ command = ["/bin/cat"], timeout = 10 }', "duration"),
    "an empty list": ("[]", "list of 1 to 8"),
    "too long a list": ("[" + ", ".join(['{ env = "A" }'] * 9) + "]", "list of 1 to 8"),
    "a text in a list": (f'[{{ env = "A" }}, "{CANARY}"]', "supported form"),
    "a list in a list": ('[[{ env = "A" }]]', "supported form"),
    "fall_back without a list": ('{ aws_secret = "b", fall_back = "always" }', "fall_back"),
    "fall_back at the end": ('[{ env = "A" }, { aws_secret = "b", fall_back = "always" }]', "fall_back"),
    "another fall_back": ('[{ aws_secret = "b", fall_back = "never" }, { env = "A" }]', "fall_back"),
    "a number": ("7", "supported form"),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_a_wrong_notation_is_one_problem_by_its_key(folder: Folder, case: tuple[str, str]):
    """Nothing is asked then, and the problem quotes no value."""
    store = Store()
    with pytest.raises(SettingsInvalid) as raised:
        loaded(folder, xero(case[0]), store)
    [problem] = raised.value.problems
    assert problem.where == f"{folder.file}: providers.xero.client_secret"
    assert case[1] in f"{problem.what} {problem.do}"
    assert CANARY not in str(problem)
    assert store.asked == []


@pytest.mark.parametrize(("mode", "where"), [(0o702, "file"), (0o777, "directory")])
def test_a_command_that_others_can_change_is_refused(folder: Folder, program: Program, mode: int, where: str):
    """Its owner, its mode and those of its directories are judged as the configuration's."""
    path = program("echo s3cret")
    inner = folder.path / "bin"
    inner.mkdir(mode=0o700)
    moved = Path(json.loads(path)).rename(inner / "p")
    (moved if where == "file" else inner).chmod(mode)
    problems = folder.refused(xero(f'{{ command = ["{moved}"] }}'))
    assert "every local user can change it" in problems["providers.xero.client_secret"]


def test_a_command_is_not_taken_from_the_environment(folder: Folder, program: Program):
    """Who sets a variable does not thereby choose a program."""
    path = json.loads(program("echo s3cret"))
    problems = folder.refused(
        f'{LEAST}\n[providers.xero]\nclient_id = "me"\n',
        REFRESHD_PROVIDERS__XERO__CLIENT_SECRET__COMMAND=f'["{path}"]',
    )
    assert "configuration file" in problems["environment: REFRESHD_PROVIDERS__XERO__CLIENT_SECRET__COMMAND"]


def test_a_command_gives_a_secret(folder: Folder, program: Program):
    """The whole way: configuration, program, output, settings; and which source answered."""
    path = program("echo s3cret")
    settings = folder.load(xero(f"{{ command = [{path}] }}"))
    secret = settings.providers["xero"].client_secret
    assert secret is not None
    assert secret.reveal() == "s3cret"
    [answered] = settings.answered
    assert (answered.secret, answered.source) == (
        "providers.xero.client_secret",
        f"command {json.loads(path)}",
    )
    assert "s3cret" not in repr(settings)


def test_fifty_commands_run_at_the_same_time(folder: Folder, program: Program):
    """Fifty programs of 200 ms take less than a second together."""
    path = program("sleep 0.2; echo s3cret")
    tables = "".join(
        f'[providers.p{n}]\nlike = "xero"\nclient_id = "me"\nclient_secret = {{ command = [{path}, "{n}"] }}\n'
        for n in range(50)
    )
    folder.write(LEAST + tables)
    reader = SecretReader()
    load(folder.file, {}, uses=(), reader=reader)  # imports and tables are not what is measured
    begun = time.monotonic()
    bare = time.monotonic()
    load(folder.file, {}, uses=(), reader=reader)
    bare = time.monotonic() - bare
    begun = time.monotonic()
    settings = load(folder.file, {}, reader=reader)
    assert time.monotonic() - begun - bare < 1
    assert {one.client_secret and one.client_secret.reveal() for one in settings.providers.values()} == {"s3cret"}  # fmt: skip


# ---- chains


AWAY = SecretAway("it can't be reached")
CHAINS = {
    "the first one has it": ({"a": "one", "b": "two"}, "", "one", "aws_secret a"),
    "the first one does not": ({"b": "two"}, "", "two", "aws_secret b"),
    "the first one is away, and that counts": ({"a": AWAY, "b": "two"}, "always", "two", "aws_secret b"),
    "both lack it, and a file has it": ({}, "", "three", "file secret"),
}


@pytest.mark.parametrize("case", CHAINS.values(), ids=CHAINS)
def test_a_list_is_asked_in_turn(folder: Folder, case: tuple[dict[str, str | Exception], str, str, str]):
    """The next source is asked if one does not have the secret; if one is away only with `always`."""
    secrets, fall_back, expected, source = case
    folder.write("three\n", "secret")
    always = f', fall_back = "{fall_back}"' if fall_back else ""
    chain = f'[{{ aws_secret = "a"{always} }}, {{ aws_secret = "b" }}, {{ file = "secret" }}]'
    settings = loaded(folder, xero(chain), Store(**secrets))
    secret = settings.providers["xero"].client_secret
    assert secret is not None
    assert secret.reveal() == expected
    assert [one.source for one in settings.answered] == [source]


def test_a_source_that_is_away_ends_a_list_without_always(folder: Folder):
    """Else an outage would bring an old secret back into use."""
    store = Store(a=AWAY, b="two")
    settings = loaded(folder, xero('[{ aws_secret = "a" }, { aws_secret = "b" }]'), store)
    [waiting] = settings.lacking
    assert (waiting.kind, waiting.source) == ("away", "aws_secret a")
    assert store.asked == ["a"]
    assert settings.providers["xero"].lacking == "aws_secret a: it can't be reached"
    assert settings.providers["xero"].client_secret is None


def test_an_unusable_answer_ends_a_list(folder: Folder):
    """The secret is there and broken, which no other source corrects."""
    store = Store(a=SecretUnusable("its answer is binary"), b="two")
    settings = loaded(
        folder, xero('[{ aws_secret = "a", fall_back = "always" }, { aws_secret = "b" }]'), store
    )
    assert [(one.kind, one.source) for one in settings.lacking] == [("unusable", "aws_secret a")]


def test_a_list_on_this_machine_needs_no_store(folder: Folder):
    """An environment variable, else a file; and a problem of the configuration if neither has it."""
    chain = '[{ env = "SECRET" }, { file = "secret" }]'
    with pytest.raises(SettingsInvalid) as raised:
        loaded(folder, xero(chain), Store())
    assert [problem.where for problem in raised.value.problems] == [
        f"{folder.file}: providers.xero.client_secret"
    ]
    folder.write("from the file\n", "secret")
    secret = loaded(folder, xero(chain), Store()).providers["xero"].client_secret
    assert secret is not None
    assert secret.reveal() == "from the file"


def test_a_file_that_everybody_can_read_ends_a_list(folder: Folder):
    """That is an operator's mistake, and no reason to ask elsewhere."""
    folder.write("exposed\n", "secret", mode=0o644)
    problems = folder.refused(xero('[{ file = "secret" }, { env = "SECRET" }]'), SECRET="s")
    assert "every local user can read" in problems["providers.xero.client_secret"]


@pytest.mark.parametrize("place", ["ring", "readers", "writer"])
def test_a_key_has_one_source(folder: Folder, place: str):
    """Another source could answer with another key, under which tokens would be sealed."""
    store, chain = Store(a=KEY), '[{ aws_secret = "a" }, { env = "KEY" }]'
    if place == "ring":
        text = f'[store]\nuri = "embedded"\n[keys]\nactive = "a"\n[keys.ring]\na = {chain}\n'
        with pytest.raises(SettingsInvalid, match="one source"):
            loaded(folder, text, store)
    else:
        folder.write(f'[store]\nuri = "mongodb://h/"\n[keys]\nreaders = "x"\n{place} = {chain}\n'.replace(
            'readers = "x"\nreaders', "readers"
        ))  # fmt: skip
        with pytest.raises(SettingsInvalid, match="one source"):
            load_access(folder.file, {}, reader=SecretReader(ask=store))
    assert store.asked == []


# ---- which secrets are asked for


EVERYWHERE = """
[store]
uri = { aws_secret = "uri" }
[keys]
active = "a"
[keys.ring]
a = { aws_secret = "key" }
[server]
bearer_token = { aws_secret = "bearer" }
[refresh]
proxy = { aws_secret = "proxy" }
[providers.xero]
client_id = "me"
client_secret = { aws_secret = "client" }
"""
ALL: dict[str, str | Exception] = {
    "uri": "mongodb://h/db",
    "key": KEY,
    "bearer": "b" * 20,
    "proxy": "http://proxy:3128",
    "client": "s3cret",
}


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        (STORE_ONLY, {"uri", "key"}),
        ({Use.SERVER}, {"bearer"}),
        ((), set()),
        (STORE_ONLY | {Use.CLIENTS}, {"uri", "key", "client"}),
    ],
)
def test_only_the_secrets_in_use_are_asked_for(folder: Folder, uses: frozenset[Use], expected: set[str]):
    """A command that uses no client's secret works while that one's source is away."""
    store = Store(**{name: ALL[name] if name in expected else AWAY for name in ALL})
    loaded(folder, EVERYWHERE, store, uses=uses)
    assert set(store.asked) == expected


def test_each_secret_reaches_its_place(folder: Folder):
    """Every place takes a source outside this machine."""
    settings = loaded(folder, EVERYWHERE, Store(**ALL))
    assert settings.keys.ring["a"].key == RAW
    assert settings.store.database == "db"
    assert settings.server.bearer_token is not None
    assert settings.refresh.proxy is not None
    assert settings.refresh.proxy.reveal() == "http://proxy:3128"


def test_what_the_daemon_can_not_work_without_is_waited_for(folder: Folder):
    """All of it is named together, with everything else in place; a client is left to the daemon."""
    store = Store(**dict.fromkeys(ALL, AWAY))
    with pytest.raises(SecretsAway) as raised:
        loaded(folder, EVERYWHERE, store)
    away = raised.value
    places = {one.where.partition(": ")[2] for one in away.waiting}
    assert places == {"store.uri", "keys.ring.a", "server.bearer_token", "refresh.proxy"}
    assert away.settings is not None
    assert away.settings.server.port == 9464
    assert [one.where.partition(": ")[2] for one in away.settings.lacking] == ["providers.xero.client_secret"]


def test_another_problem_takes_precedence_over_a_source_that_is_away(folder: Folder):
    """What only an operator can correct is not waited for."""
    with pytest.raises(SettingsInvalid) as raised:
        loaded(folder, f"{EVERYWHERE}\nclient_sekret = 1\n", Store(**dict.fromkeys(ALL, AWAY)))
    assert [one.where.partition(": ")[2] for one in raised.value.problems] == ["providers.xero.client_sekret"]


HALVES = {
    "a key": ("key", KEY[:20], "keys.ring.a", "32 bytes"),
    "a weak key": ("key", "00" * 32, "keys.ring.a", "weak key"),
    "a URI": ("uri", "mongodb://", "store.uri", "names no host"),
    "a bearer token": ("bearer", "zwölf", "server.bearer_token", "ASCII"),
}


@pytest.mark.parametrize("case", HALVES.values(), ids=HALVES)
def test_half_an_answer_is_waited_for_too(folder: Folder, case: tuple[str, str, str, str]):
    """What a store answers today it may answer rightly in a minute, so it is no reason to refuse a start."""
    name, half, place, words = case
    with pytest.raises(SecretsAway) as raised:
        loaded(folder, EVERYWHERE, Store(**{**ALL, name: half}))
    [waiting] = raised.value.waiting
    assert waiting.where.partition(": ")[2] == place
    assert waiting.kind == "unusable"
    assert words in waiting.why
    assert half not in str(waiting)


ANSWERS = {
    "empty": ("  \n", "empty"),
    "binary": ("a\0b", "binary"),
    "too long": ("x" * 70_000, "64 KB"),
    "a bug of a library": (ValueError(CANARY), "unexpected: ValueError"),
}


@pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_no_secret_is_one_sentence(folder: Folder, case: tuple[str | Exception, str]):
    """The other secrets come all the same, and the sentence holds no value."""
    settings = loaded(folder, EVERYWHERE, Store(**{**ALL, "client": case[0]}))
    [waiting] = settings.lacking
    assert case[1] in waiting.why
    assert CANARY not in str(waiting)


def test_a_source_that_hangs_is_given_up_after_its_limit(folder: Folder, program: Program):
    """The limit of a command is its own."""
    begun = time.monotonic()
    settings = folder.load(xero(f'{{ command = [{program("sleep 60")}], timeout = "200ms" }}'))
    assert time.monotonic() - begun < 5
    assert [one.kind for one in settings.lacking] == ["away"]


def test_a_cloud_without_its_package_is_named(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    """The problem says which extra to install. Nothing waits for it."""
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    for name in ("aws", "aws_request"):
        monkeypatch.delitem(sys.modules, f"daemon.adapters.secrets.{name}", raising=False)
    text = xero('{ aws_secret = "prod/xero" }')
    with pytest.raises(SettingsInvalid, match=r"refreshd\[aws\]"):
        load(folder.write(text), {}, reader=SecretReader())


# ---- what stays


def test_a_secret_in_use_stays_while_its_source_is_away(folder: Folder):
    """A second reading fails, and nothing is lost: ring, URI and client are those of before."""
    store = Store(**ALL)
    reader = SecretReader(ask=store)
    before = loaded(folder, EVERYWHERE, store, reader)
    store.secrets = dict.fromkeys(ALL, AWAY)
    after = loaded(folder, EVERYWHERE, store, reader)
    assert (after.keys, after.store, after.providers) == (before.keys, before.store, before.providers)
    assert {one.kept for one in after.answered} == {"it can't be reached"}
    assert after.lacking == ()
    assert set(reader.up.values()) == {False}


def test_half_an_answer_does_not_replace_a_secret_in_use(folder: Folder):
    """Neither does it become what is kept next time."""
    store = Store(**ALL)
    reader = SecretReader(ask=store)
    loaded(folder, EVERYWHERE, store, reader)
    store.secrets["key"] = KEY[:20]
    for _ in range(2):
        assert loaded(folder, EVERYWHERE, store, reader).keys.ring["a"].key == RAW
    store.secrets["key"] = OTHER_KEY
    assert loaded(folder, EVERYWHERE, store, reader).keys.ring["a"].key != RAW


def test_another_reference_does_not_get_the_former_secret(folder: Folder):
    """What was kept belongs to its source, not to the place."""
    store = Store(**ALL)
    reader = SecretReader(ask=store)
    loaded(folder, EVERYWHERE, store, reader)
    store.secrets["other"] = AWAY
    text = EVERYWHERE.replace('"client"', '"other"')
    assert [one.source for one in loaded(folder, text, store, reader).lacking] == ["aws_secret other"]
    assert "aws_secret client" not in reader.up


def test_the_gauge_shows_which_sources_answer(folder: Folder):
    """A source that says `does not exist` in a list is up, since it answers."""
    reader = SecretReader(ask=Store(b="two"))
    loaded(folder, xero('[{ aws_secret = "a" }, { aws_secret = "b" }]'), Store(), reader)
    assert reader.up == {"aws_secret a": True, "aws_secret b": True}


# ---- the access service


def test_the_access_service_asks_for_its_own_secrets_only(folder: Folder):
    """No client's secret, no ring beside readers, no bearer token of the daemon."""
    lines = json.dumps({"field": "access_token", "key_id": "a", "key": KEY})
    store = Store(**{**dict.fromkeys(ALL, AWAY), "uri": "mongodb://h/", "readers": lines})
    text = EVERYWHERE.replace('active = "a"', 'active = "a"\nreaders = { aws_secret = "readers" }')
    folder.write(text)
    settings = load_access(folder.file, {}, reader=SecretReader(ask=store))
    assert set(store.asked) == {"uri", "readers"}
    assert not settings.with_ring


@pytest.mark.parametrize("missing", ["uri", "readers", "key"])
def test_the_access_service_waits_for_its_secrets(folder: Folder, missing: str):
    """With readers, or with a ring in their place."""
    lines = json.dumps({"field": "access_token", "key_id": "a", "key": KEY})
    store = Store(**{**ALL, "readers": lines, missing: AWAY})
    readers = 'active = "a"\nreaders = { aws_secret = "readers" }'
    folder.write(EVERYWHERE if missing == "key" else EVERYWHERE.replace('active = "a"', readers))
    with pytest.raises(SecretsAway) as raised:
        load_access(folder.file, {}, reader=SecretReader(ask=store))
    assert [one.source for one in raised.value.waiting] == [f"aws_secret {missing}"]

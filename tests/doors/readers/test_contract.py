"""Every case of cases.json, in each language and over both transports, with the built packages."""

import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.doors.readers.api import Api
from tests.doors.readers.house import KEY_ID, PROVIDER, RECONNECT, RETURN, House, Started
from tests.support import wall_clock

CASES = json.loads(Path(__file__).with_name("cases.json").read_text())
EVENTUALLY = 5.0  # seconds
LANGUAGES, TRANSPORTS = ("python", "python-async", "node"), ("http", "mongodb")
_DATES = ("expires_at", "due_at", "refreshed_at", "at", "usual")


def rows() -> list[Any]:
    return [
        pytest.param(case, language, transport, id=f"{case['case']}-{language}-{transport}")
        for case in CASES
        for language in LANGUAGES
        for transport in case.get("over", TRANSPORTS)
    ]


class Run:
    """One case, in one language, over one transport."""

    def __init__(
        self, house: House, api: Api, driver: Started, case: dict[str, Any], name: str, files: Path
    ) -> None:
        self.house, self.api, self.driver, self.case = house, api, driver, case
        self.transport = name.partition("/")[2]
        self.account = str(case.get("account", case["case"].replace(" ", "-"))) + f"-{name}"
        if case.get("account") in ("..", "another"):
            self.account = case["account"]
        self.files = files
        self.former = ""
        self.link: dict[str, str] = {}
        self.back: dict[str, str] = {}  # what the owner's browser brought

    def value(self, wanted: object) -> object:
        """Return what stands for a name that begins with `$`."""
        match wanted:
            case dict():
                return {name: self.value(one) for name, one in wanted.items()}
            case list():
                return [self.value(one) for one in wanted]
            case str() if wanted.startswith("$"):
                name, slash, rest = wanted[1:].partition("/")
                return f"{self._named(name)}{slash}{rest}" if slash else self._named(name)
        return wanted

    def _named(self, name: str) -> object:
        house, token_id, nonce = self.house, f"{PROVIDER}:{self.account}", time.monotonic_ns()
        return {
            "id": lambda: token_id,
            "access_token": lambda: house.access_token(self.account),
            "version": lambda: house.version(self.account),
            "expires_at": self._expires_at,
            "reconnect_url": lambda: RECONNECT.replace("{id}", quote(token_id, safe="")),
            "now": wall_clock.now,
            "consent": lambda: {one: value for one, value in house.consent().items() if one != "grant"},
            "subject": lambda: f"subject-of-{self.account}",
            "api": lambda: self.api.url,
            "url": lambda: house.url,
            "unix": lambda: f"unix:{house.socket}",
            "key": lambda: house.access_key,
            "key_of_others": lambda: house.create_key(f"others-{nonce}", "xero:*", "read,refuse"),
            "key_to_read": lambda: house.create_key(f"reading-{nonce}", f"{PROVIDER}:*", "read"),
            "mongodb": lambda: house.mongodb,
            "return": lambda: RETURN,
            "link": lambda: self.link["url"],
            "verifier": lambda: self.link["verifier"],
            "connect_code": lambda: self.back["connect_code"],
            "other_readers": lambda: str(self._other_readers()),
        }[name]()

    def _expires_at(self) -> float:
        at: datetime = self.house.stored(self.account)["expires_at"]
        return at.timestamp()

    def _other_readers(self) -> Path:
        line = json.loads(self.house.readers.read_text().splitlines()[0])
        file = self.files / "readers.jsonl"
        file.write_text(json.dumps({**line, "key_id": "another"}) + "\n")
        return file

    # ---------------------------------------------------------------- what is stored

    def prepare(self) -> None:
        if not self.case.get("stored", True):
            return
        self.house.tokens.delete_one({"_id": f"{PROVIDER}:{self.account}"})
        response = self.house.add(self.account, **self.case.get("with", {}))
        if self.case.get("withdrawn"):
            self.house.withdraw(response["grant"])
            self.house.refreshd("refresh", f"{PROVIDER}:{self.account}")
            self.house.until(lambda: self.house.stored(self.account)["state"] == "needs_reauth")
        if self.case.get("moved"):
            sealed = self.house.stored(self.account)["refresh_token"]
            self._set({"access_token": sealed})
        if "set" in self.case:
            self._set(self._dated(self.case["set"]))
        if "command" in self.case:
            self._command(self.case)

    def _dated(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Seconds from now become dates."""
        return {
            name: self._dated(one)
            if isinstance(one, dict)
            else wall_clock.now() + timedelta(seconds=one)
            if name in _DATES and isinstance(one, int)
            else self.value(one)
            for name, one in fields.items()
        }

    def _set(self, fields: dict[str, Any]) -> None:
        self.house.tokens.update_one({"_id": f"{PROVIDER}:{self.account}"}, {"$set": fields})

    def _command(self, step: dict[str, Any]) -> None:
        self.house.refreshd(*[str(self.value(one)) for one in step["command"]])

    # ---------------------------------------------------------------- steps

    def act(self, step: dict[str, Any]) -> None:
        """Do what happens on the other side."""
        match step["host"]:
            case "command":
                self._command(step)
            case "consent":
                self.back = self.house.browse(self.link["url"], step.get("decision", "approve"))
                assert self.back["connect"] == self.link["id"]
                assert step.get("brings", "connect_code") in self.back
            case "renew":
                self.house.renew(self.account)
            case "refuse":
                self.api.refused.add(self.house.access_token(self.account))
            case "refuse every":
                self.api.refused.add("every")
            case "add reader key":
                with (self.files / "readers.jsonl").open("a") as file:
                    line = self.house.readers.read_text().splitlines()[0]
                    assert json.loads(line)["key_id"] == KEY_ID
                    file.write(line + "\n")

    def ask(self, step: dict[str, Any]) -> None:
        """Have the driver do the step, and compare."""
        request = {name: self.value(one) for name, one in step.items() if name not in ("value", "error")}
        request.setdefault("account", self.account)
        if step["do"] == "open":
            request.setdefault("env", self.house.environment(self.transport))
        before = self.house.access_token(self.account) if "renews" in step else ""
        end = time.monotonic() + EVENTUALLY
        while True:
            answer = self.driver.ask(request)
            try:
                self._compare(step, answer)
                break
            except AssertionError:
                if not step.get("eventually") or time.monotonic() > end:
                    raise
                time.sleep(0.1)
        if step["do"] == "connect" and "error" not in answer:
            self.link = answer["value"]
        if "renews" in step:
            assert (self.house.access_token(self.account) != before) is step["renews"]
        if "sent" in step:
            self._compare_sent(step["sent"], before)

    def _compare(self, step: dict[str, Any], answer: dict[str, Any]) -> None:
        wanted = {**step, **step.get(self.transport, {})}
        if "error" in wanted:
            assert fits(self.value(wanted["error"]), answer.get("error")), answer
        elif "lacks" in wanted:
            secret = self.value(wanted["lacks"])
            assert answer["value"]
            assert not [one for one in answer["value"] if str(secret) in one]
        elif "value" in wanted:
            assert fits(self.value(wanted["value"]), answer.get("value")), (self.value(wanted), answer)
        else:
            assert "error" not in answer, answer

    def _compare_sent(self, wanted: list[list[str | None]], former: str) -> None:
        tokens = {"former": former, "current": self.house.access_token(self.account)}
        headers = [None if which is None else f"Bearer {tokens[which]}" for _, which, _ in wanted]
        assert [(one["path"], one["authorization"], one["body"]) for one in self.api.seen] == [
            (path, header, body) for (path, _, body), header in zip(wanted, headers, strict=True)
        ]


def fits(wanted: object, found: object) -> bool:
    """Return whether `found` has what is wanted. Two numbers are a range."""
    match wanted, found:
        case dict(), dict():
            return all(name in found and fits(one, found[name]) for name, one in wanted.items())
        case [int(least), int(most)], int() | float():
            return least <= found <= most
        case datetime(), _:
            return False
    return wanted == found


@pytest.mark.parametrize(("case", "language", "transport"), rows())
def test_a_reader_keeps_the_contract(
    house: House,
    api: Api,
    drivers: dict[str, Started],
    tmp_path: Path,
    case: dict[str, Any],
    language: str,
    transport: str,
) -> None:
    """As the case says."""
    run = Run(house, api, drivers[language], case, f"{language}/{transport}", tmp_path)
    run.prepare()
    run.ask({"do": "open"})
    for step in case["steps"]:
        if "host" in step:
            run.act(step)
        else:
            run.ask(step)

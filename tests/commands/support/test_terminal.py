"""Neither standard output nor standard error ever carries a character that steers a terminal or is not seen."""

import io
import json
import logging
import sys
import unicodedata
from datetime import timedelta

import pytest

from daemon.commands.support.output import Output
from daemon.commands.support.terminal import Said, say
from tests.support import wall_clock

EVIL = "A\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202egnp\u2066\rX\u2028\u200b\u00ad\u3164\U000e0041"
FORGED = f"{EVIL}\nrefreshd: all is well"
HARMFUL = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def harm_in(text):
    """The characters in `text` that no terminal may get, as `text` would be read from the bytes."""
    return {hex(ord(c)) for c in text if c != "\n" and (unicodedata.category(c) in HARMFUL or c == "\u3164")}


@pytest.fixture
def hostile(cli, database):
    """A store in which every text that another program can write is hostile."""
    now = wall_clock.now()
    failure = {"kind": "unavailable", "code": FORGED, "message": FORGED, "at": now}
    lease = {"owner": FORGED, "claim": FORGED, "until": now, "hold": now + timedelta(hours=1)}
    inner = {FORGED: FORGED, "list": [FORGED, {FORGED: FORGED}]}
    names = ("scope", "token_type", "failures", "revision", "expires_at")
    database.tokens.insert_many(
        [
            {
                "_id": f"xero:{EVIL}{n}",
                "provider": "xero",
                "account": FORGED,
                "state": state,
                "due_at": now - timedelta(minutes=1),
                "last_failure": failure,
                "lease": lease,
                "doubt": {"since": FORGED, FORGED: FORGED},
                **dict.fromkeys(names, FORGED),
                **dict.fromkeys(("vars", "extra", "meta"), inner),
            }
            for n, state in enumerate(("active", "needs_reauth", "paused", FORGED))
        ]
    )
    database.tokens_providers.insert_one({"_id": "xero", "paused": {"reason": FORGED, "since": now}})
    return cli


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "--json"],
        ["list", "--provider", FORGED],
        ["list", "--state", FORGED],
        ["show", f"xero:{EVIL}0"],
        ["show", f"xero:{EVIL}0", "--json"],
        ["show", f"xero:{FORGED}"],
        ["show", FORGED],
        ["show", "xero:a", FORGED],
        ["show", "xero:\udcff\udc9b"],
        ["show", f"xero:{EVIL}0", "--reveal", FORGED],
        ["show", f"xero:{EVIL}0", "--reveal", "access_token"],
        ["providers", FORGED],
        ["refresh", f"xero:{EVIL}0"],
        ["refresh", f"xero:{EVIL}2", "--wait", "--timeout", "1ms"],
        ["refresh", FORGED, "--timeout", FORGED],
        ["pause", f"xero:{EVIL}0", FORGED, f"xero:{FORGED}"],
        ["resume", f"xero:{EVIL}0", "--rejected-since", FORGED],
        ["remove", f"xero:{EVIL}0", f"xero:{FORGED}", "--yes"],
        ["remove", f"xero:{EVIL}0"],
        ["adopt", FORGED, "--yes"],
        ["add", "xero", FORGED],
        ["add", FORGED, "a", "--var", FORGED],
        ["journal", "replay", f"/nowhere/{FORGED}"],
        ["keys", "reader", FORGED],
        ["sandbox", "--as", FORGED],
        ["check"],
        [FORGED],
        [f"--{FORGED}"],
        ["--config", f"/nowhere/{EVIL}", "list"],
        ["--env-file", f"/nowhere/{EVIL}", "list"],
    ],
    ids=lambda arguments: ascii(" ".join(arguments))[1:30],
)
def test_no_hostile_text_reaches_a_terminal(hostile, arguments):
    """From documents and from the command line, in results and in sentences about what went wrong."""
    ran = hostile.run(*arguments)
    assert not harm_in(ran.out)
    assert not harm_in(ran.err)
    assert "refreshd: all is well" not in (ran.out + ran.err).splitlines()


def test_the_store_of_these_tests_is_hostile(hostile):
    """What the tests above do not find was there to be found."""
    shown = hostile.run("show", f"xero:{EVIL}0").out
    for place in ("vars", "extra", "meta"):
        assert f"{place}.A\\u001b]0;PWNED\\u0007" in "".join(shown.split())


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_an_id_is_printed_as_it_is_for_programs_and_with_escapes_on_a_terminal(cli, monkeypatch):
    """A pipe gets what is stored; people see what they could not see."""
    for stream, printed in ((io.StringIO(), "xero:co\u00adop\n"), (Terminal(), "xero:co\\u00adop\n")):
        monkeypatch.setattr(sys, "stdout", stream)
        Output(as_json=False).exact({}, "xero:co\u00adop")
        assert stream.getvalue() == printed


@pytest.mark.parametrize(
    "account", ["\u0634\u0631\u0643\u0629\u200f", "\U0001f469\u200d\U0001f467", "co\u00adop", "a\u00a0b"]
)
def test_a_printed_id_can_be_used(cli, account):
    """As a program gets it from `add`, as JSON has it, and as people read it in a list or a sentence."""
    added = cli.add(f"xero:{account}")
    stored = f"xero:{account}"
    assert added.out == f"{stored}\n"
    (listed,) = cli.run("list", "--json").lines()
    assert listed["id"] == stored
    shown = cli.run("list").out.splitlines()[1].split()[0]
    assert shown.isprintable()
    for name in (stored, shown):
        assert cli.run("show", name, "--json").json()["id"] == stored
        assert cli.run("refresh", name).code == 0
        assert cli.run("pause", name, "--json").json() == {"id": stored, "action": "paused", "changed": True}
        assert cli.run("resume", name).code == 0
    again = cli.run("add", "xero", shown.removeprefix("xero:"), stdin={"refresh_token": "new"})
    assert "Replaced" in again.err
    assert cli.run("remove", shown, "--yes").code == 0
    assert cli.run("list", "--json").out == ""


def test_an_id_that_holds_what_looks_like_an_escape_is_itself(cli):
    """If its twin is stored too, neither is guessed; each can still be named."""
    plain, twin = "xero:co\\u00adop", "xero:co\u00adop"
    cli.add(plain, {"access_token": "one"})
    assert cli.run("show", plain, "--json").json()["id"] == plain
    cli.add(twin, {"access_token": "two"})
    ran = cli.run("remove", plain, "--yes")
    assert (ran.code, "two stored IDs" in ran.err) == (2, True)
    assert cli.run("show", "xero:co\\u005cu00adop", "--json").json()["id"] == plain
    assert cli.run("show", twin, "--json").json()["id"] == twin


def test_a_sentence_is_one_line(capsys):
    """Whatever it quotes, and so is what a library logs."""
    say("first\nsecond\x1b[2J", "third")
    record = logging.LogRecord("lib\x1b", logging.WARNING, "", 1, "said %s\n", ("x\x9b",), None)
    Said().emit(record)
    assert (
        capsys.readouterr().err == "first\\u000asecond\\u001b[2J\nthird\nlib\\u001b: said x\\u009b\\u000a\n"
    )


def test_json_is_ascii(hostile):
    """Programs get each character, and a terminal none of them."""
    ran = hostile.run("list", "--json")
    assert ran.out.isascii()
    assert json.loads(ran.out.splitlines()[0])["id"].startswith(f"xero:{EVIL}")

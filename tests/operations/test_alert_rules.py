"""The shipped rules, by Prometheus' own tools: well formed, tested in both directions, on metrics that there are."""

import json
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from daemon.commands.support.backup_writing import METRIC
from tests.e2e.daemon_process import Installation
from tests.e2e.service import placed
from tests.e2e.test_hooks import hook, secret
from tests.operations.exposition import exposed, exposition
from tests.operations.expressions import metrics_in
from tests.operations.monitoring import SHIPPED, rules, shipped
from tests.support.jwts import SigningKey, key_set

pytestmark = pytest.mark.operations

TESTS = ("alerts.test.yml", "alerts.days.test.yml")
OF_PROMETHEUS = {"up"}
OF_BACKUPS = {METRIC}  # in a file, for node_exporter
OF_ACCESS = "refreshd_access_"  # of another process
OF_ONE_PROCESS = {"refreshd_last_sweep_success_timestamp_seconds", "refreshd_store_up"}


def run(*command: str, stdin: str | None = None) -> str:
    """What a tool says, if it is content."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_rules_and_samples_are_well_formed(promtool: str):
    """The scrape sample names both rule files, so that all three are read."""
    assert run(promtool, "check", "config", str(SHIPPED / "prometheus.yml")).count("SUCCESS") == 4
    for name in ("alerts.yml", "recording.yml"):
        run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(SHIPPED / name))


def test_the_alertmanager_sample_is_well_formed(amtool: str):
    """By Alertmanager's own reader."""
    run(amtool, "check-config", str(SHIPPED / "alertmanager.yml"))


def test_the_rules_do_what_their_tests_say(promtool: str):
    """`promtool test rules`: every alert fires when it should, with the words that it should, and else is silent."""
    run(promtool, "test", "rules", *(str(SHIPPED / name) for name in TESTS))


def test_every_alert_has_a_firing_and_a_silent_case():
    """A silent case must give the alert what it looks at: with no data every alert is silent."""
    fires, silent = defaultdict(int), defaultdict(int)
    expressions = {rule["alert"]: rule["expr"] for rule in rules(shipped("alerts.yml"))}
    for case in (case for name in TESTS for case in shipped(name)["tests"]):
        given = {name for series in case["input_series"] for name in metrics_in(series["series"])}
        for look in case["alert_rule_test"]:
            alert = look["alertname"]
            if look["exp_alerts"]:
                fires[alert] += 1
            elif given & metrics_in(expressions[alert]):
                silent[alert] += 1
    assert fires.keys() == silent.keys() == expressions.keys()


def test_an_alert_on_a_gauge_outlives_its_target():
    """Read plainly, a gauge vanishes with its daemon, and the alert ends as if all were well: it is looked back at, as
    long as it takes until RefreshdDown has taken over."""
    plain = {
        rule["alert"]: sorted(found)
        for rule in rules(shipped("alerts.yml"))
        if (found := metrics_in(rule["expr"], plain=True) - OF_PROMETHEUS)
    }
    assert plain == {"RefreshdNeedsReauthRising": ["refreshd_tokens"]}  # inside its own window of an hour


async def test_the_metrics_are_well_formed_and_hold_all_that_the_rules_ask_for(
    mongod: str, database_name: str, tmp_path: Path, promtool: str
):
    """`promtool check metrics` on what a running daemon exposes; and no rule asks for what is not there."""
    program = tmp_path / "secret"
    program.write_text("#!/bin/sh\necho s\n")
    program.chmod(0o700)
    provider = {"client_id": "c", "client_secret": {"command": [str(program)]}}
    place = Installation(tmp_path / "place", uri=mongod, database=database_name, providers={"xero": provider})
    with place.config.open("a") as config:
        config.write('[[mirrors]]\nlayout = "token-files"\npath = "tokens.json"\nprovider = "xero"\n')
        config.write(hook("crm", "http://127.0.0.1:9/", secret(b"k" * 32)))
    async with place.running() as daemon:
        text = await exposition(await daemon.ready())
    run(promtool, "check", "metrics", stdin=text)
    asked = {
        name
        for file in ("alerts.yml", "recording.yml")
        for rule in rules(shipped(file))
        for name in metrics_in(rule["expr"])
    }
    assert asked >= OF_ONE_PROCESS
    of_access = {name for name in asked if name.startswith(OF_ACCESS)}
    assert asked - exposed(text) - of_access == OF_PROMETHEUS | OF_BACKUPS


async def test_the_access_service_has_the_metrics_that_the_rules_ask_for(
    mongod: str, tmp_path: Path, promtool: str
):
    async with placed(mongod, tmp_path / "place") as place:
        jwks = tmp_path / "jwks.json"
        jwks.write_text(json.dumps(key_set(SigningKey("one", "EdDSA"))))
        issuer = {
            "issuer": "https://ci.example.com",
            "audience": "https://tokens.example.com",
            "jwks": {"file": str(jwks)},
            "claims": {"sub": "job"},
            "tokens": ["xero:*"],
        }
        access = {"bearer_token": "a-token-for-operators", "issuers": [issuer]}
        async with place.serving(await place.key(), access=access) as service:
            text = (await service.get("/metrics", key=access["bearer_token"])).text
    run(promtool, "check", "metrics", stdin=text)
    asked = {name for rule in rules(shipped("alerts.yml")) for name in metrics_in(rule["expr"])}
    of_access = {name for name in asked if name.startswith(OF_ACCESS)}
    assert of_access
    assert of_access <= exposed(text)

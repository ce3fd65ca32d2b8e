"""The receivers of hooks: each has an address that it may have, and can be reached."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from daemon.adapters.egress.public_addresses import is_public
from daemon.adapters.egress.reach import Address, Unreached, reach
from daemon.commands.checks.report import Report
from daemon.runtime.config.hooks import HookSettings
from daemon.runtime.config.settings import Settings

WITHIN = timedelta(seconds=10)  # for all receivers together


def check_hooks(settings: Settings, report: Report) -> None:
    """Look up, connect to and agree on TLS with each receiver. Nothing is sent: `refreshd hooks test` does that."""
    addresses = {hook.name: _address(hook) for hook in settings.hooks}
    found = reach(set(addresses.values()), within=WITHIN)
    for hook in settings.hooks:
        _judge(hook, addresses[hook.name], found[addresses[hook.name]], report)


def _judge(hook: HookSettings, address: Address, unreached: Unreached | None, report: Report) -> None:
    where = f"hook {hook.name}"
    if unreached is None:
        barred = [one for one in _resolved(address) if not _permitted(hook, one)]
        if barred:
            what = f"{address} has the address {barred[0]}, which is not {_needed(hook)}"
            report.problem(where, what, _remedy(hook))
        else:
            report.passed(where, f"{address} can be reached{' by TLS' if address.tls else ''}")
    elif unreached.distrusted:
        do = "Correct the URL, or the certificates that this machine trusts."
        report.problem(where, f"{address}: {unreached.why}", do)
    else:
        report.warn(where, f"{address}: {unreached.why}", "Its events wait until the receiver answers.")


def _resolved(address: Address) -> Iterator[str]:
    """Yield the addresses of a host that has just been reached, so its name service answers."""
    rows = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    yield from dict.fromkeys(str(row[4][0]) for row in rows)


def _permitted(hook: HookSettings, address: str) -> bool:
    if urlsplit(hook.url).scheme == "http":
        return not is_public(address)
    return hook.allow_private or is_public(address)


def _needed(hook: HookSettings) -> str:
    return "inside the network" if urlsplit(hook.url).scheme == "http" else "public"


def _remedy(hook: HookSettings) -> str:
    if urlsplit(hook.url).scheme == "http":
        return "Write https://, since plain HTTP never leaves the network."
    return "If the receiver is meant to be inside, add allow_private = true."


def _address(hook: HookSettings) -> Address:
    parts = urlsplit(hook.url)
    tls = parts.scheme == "https"
    return Address(host=parts.hostname or "", port=parts.port or (443 if tls else 80), tls=tls)

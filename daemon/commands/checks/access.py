"""The access service: its settings and their weak points, and whether it could start and do its work here.

In the daemon's configuration all of it is a warning, because the daemon works without it. In the service's own it is what
the check is about.
"""

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from daemon.adapters.mongo.admin.preflight import (
    missing_access_key_rights,
    missing_connect_rights,
    missing_service_rights,
    missing_streams,
    needless_rights,
)
from daemon.adapters.mongo.connection import LoginRefused, Mongo, Refusal
from daemon.adapters.mongo.key_proof import wrong_keys
from daemon.adapters.trusted_files import Untrusted, trust
from daemon.commands.checks.report import Report
from daemon.commands.support.access import Access
from daemon.commands.support.access_client import Answer, Foreign, ask_access
from daemon.commands.support.failure import Exit
from daemon.commands.support.open_mongo import open_mongo
from daemon.commands.support.options import Options
from daemon.domain.claim import StoreLost
from daemon.runtime.clock import Clock
from daemon.runtime.config.access import AccessSettings, load_access
from daemon.runtime.config.access_outline import AccessOutline
from daemon.runtime.config.access_sections import AccessTable
from daemon.runtime.config.problems import SettingsInvalid
from daemon.runtime.confinement import confine
from daemon.runtime.web.hosts import is_loopback
from daemon.runtime.web.port_holder import port_holder

Say = Callable[[str, str, str], None]  # the key, the trouble, the remedy

_PRINT_AGAIN = "Print the keys again: `refreshd keys reader --all`, `refreshd keys writer`."
_GRANT = "Grant it: docs/security.md has the role refreshdServe."


def check_access(outline: AccessOutline, report: Report) -> None:
    """Check [access] in the daemon's configuration. No secret of the service is opened."""
    report.invalid(outline.problems)
    if outline.access is None or outline.problems:
        return
    _check_weak_points(outline, outline.access, report, report.warn)
    _check_listener(outline, outline.access, report, report.warn)
    kind = "reader keys alone" if outline.has_readers else "the key ring, which is more than it needs"
    deed = "reads and stores tokens" if outline.has_writer or not outline.has_readers else "only reads tokens"
    report.passed("access", f"`refreshd serve` with this configuration {deed}, and has {kind}")


async def check_access_key_rights(access: Access, report: Report) -> None:
    """Check what `refreshd access` needs. Raises StoreLost, Refusal."""
    if missing := await missing_access_key_rights(access.mongo):
        what = (
            f"this login may not {', '.join(missing)}, so `refreshd access` can't make or change access keys"
        )
        report.warn("store.uri", what, "Grant it. The role readWrite is enough.")
    else:
        report.passed("store.uri", "this login has the rights for access keys")


async def check_service(options: Options, outline: AccessOutline, report: Report) -> None:
    """Check the access service by a configuration of its own."""
    confine()
    try:
        settings = load_access(options.config, os.environ, options.env_file)
    except SettingsInvalid as invalid:
        report.invalid(invalid.problems)
        return
    report.passed("configuration", f"{settings.source} is valid, for `refreshd serve`")
    _check_keys(settings, report)
    _check_weak_points(outline, settings.access, report, report.warn)
    _check_listener(outline, settings.access, report, report.problem)
    providers = ", ".join(settings.providers)
    if providers:
        report.passed("providers", f"it serves tokens of {providers}")
    else:
        report.warn(
            "providers", "none is configured, so applications can store no token", "Add [providers.NAME]."
        )
    try:
        async with open_mongo(settings, clock=Clock()) as mongo:
            await _check_store(settings, mongo, report)
    except LoginRefused as refused:
        do = "Correct the user's name, the password or authSource in store.uri."
        report.problem("store.uri", str(refused), do, code=Exit.UNAVAILABLE)
    except StoreLost as lost:
        report.problem("store.uri", str(lost), "Start MongoDB, or correct the URI.", code=Exit.UNAVAILABLE)
    except Refusal as why:
        report.problem("store.uri", str(why), _GRANT)
    except SettingsInvalid as invalid:
        report.invalid(invalid.problems)


def _check_keys(settings: AccessSettings, report: Report) -> None:
    keys = settings.keys
    readers = ", ".join(sorted(keys.reader_ids))
    report.passed(
        "keys.readers", f"it opens access tokens of {readers}, and seals new ones with {keys.reader}"
    )
    if keys.writer is None:
        report.passed("keys.writer", "there is none, so applications can't store tokens")
    else:
        report.passed("keys.writer", f"it seals refresh tokens with {keys.writer}, and opens none")
        if settings.connects and not keys.seals_codes:
            report.warn(
                "keys.writer", "it has no key for codes, so applications can't connect accounts", _PRINT_AGAIN
            )


async def _check_store(settings: AccessSettings, mongo: Mongo, report: Report) -> None:
    """Raises StoreLost, Refusal."""
    tokens = mongo.tokens
    where = f"database {tokens.database.name}, collection {tokens.name}"
    report.passed("store.uri", f"MongoDB at {mongo.address} answers: {where}")
    missing = await missing_service_rights(mongo, writes=settings.keys.writer is not None)
    for right in missing:
        report.problem("store.uri", f"this login may not {right}", _GRANT)
    if not missing:
        report.passed("store.uri", "this login has every right that the service needs")
    if settings.connects and (missing := await missing_connect_rights(mongo)):
        what = f"this login may not {', '.join(missing)}, so applications can't connect accounts"
        report.warn("store.uri", what, _GRANT)
    for stream in await missing_streams(mongo):
        what = f"this login may not {stream}, so each token and key is read again after two seconds"
        report.warn("store.uri", what, _GRANT)
    if not settings.store.embedded and (needless := await needless_rights(mongo)):
        what = f"this login has far more rights than are needed: on {', '.join(needless[:5])}"
        report.warn("store.uri", what, "Give the service a login with the role refreshdServe alone.")
    wrong = await wrong_keys(mongo, settings.keys)
    for sentence in wrong:
        report.problem("keys", sentence, _PRINT_AGAIN)
    if not wrong:
        report.passed("keys", "no key contradicts this store")


def _check_weak_points(outline: AccessOutline, access: AccessTable, report: Report, say: Say) -> None:
    if outline.socket is None and not is_loopback(access.host) and not outline.with_tls:
        say(
            "access.host",
            f"every machine that reaches {access.host}:{access.port} can send access keys in plain text:"
            " trusted_proxies doesn't restrict who connects",
            "Set access.tls, or listen on an address or a unix socket that only the proxy reaches.",
        )
    if access.bearer_token is None and access.admin_port is None:
        report.skipped(
            "access", "its metrics are off: set access.admin_port or access.bearer_token for the alerts"
        )
    _check_connect(outline, access, report, say)
    for key, file in outline.secret_files.items():
        _check_file(key, file, report, say)


def _check_connect(outline: AccessOutline, access: AccessTable, report: Report, say: Say) -> None:
    """Check the settings of consents that applications begin."""
    if access.unbound_connect:
        say(
            "access.unbound_connect",
            "applications may leave the session binding out, so a person who gets such a link can connect an account of"
            " their own in place of the owner's",
            "Remove it, and let applications send a code_challenge: docs/connect.md.",
        )
    if not access.return_urls and not access.unbound_connect:
        return
    if access.public_url is None and (outline.socket is not None or not is_loopback(access.host)):
        say(
            "access.public_url",
            "there is none, so applications can't connect accounts: no redirect URI can be made",
            "Set it to the https URL under which browsers reach the service.",
        )
    elif access.public_url is None:
        report.skipped(
            "access.public_url", "there is none, so only browsers on this machine can connect accounts"
        )
    else:
        url = access.public_url
        report.passed("access.public_url", f"redirect URIs for providers: {url}/connect/callback/NAME")


def _check_file(key: str, file: Path, report: Report, say: Say) -> None:
    """Look at the owner and the mode of a secret file. It is not opened."""
    try:
        trust(file)
        mode = file.stat().st_mode
    except Untrusted as why:
        say(key, why.what, why.do)
    except PermissionError:
        report.skipped(key, f"{file} is hidden from this user")
    except OSError as why:
        say(key, f"{file} can't be read: {why.strerror}", "Write it as docs/access-service.md describes.")
    else:
        if mode & stat.S_IROTH:
            say(key, f"every local user can read {file}", f"chmod o-rwx {file}")
        else:
            report.passed(key, f"{file} is closed to others")


def _check_listener(outline: AccessOutline, access: AccessTable, report: Report, say: Say) -> None:
    where = str(outline.socket) if outline.socket else f"{access.host}:{access.port}"
    key = "access.socket" if outline.socket else "access.port"
    match ask_access(outline):
        case Answer(ready=True):
            report.passed(key, f"an access service answers at {where}, and is ready")
        case Answer(failed=failed):
            say(
                key,
                f"an access service answers at {where}, and is not ready ({', '.join(failed) or 'it is shutting down'})",
                "Read its log.",
            )
        case Foreign():
            holder = port_holder(access.port) if not outline.socket else None
            by = f" by {holder}" if holder else ""
            say(
                key,
                f"{where} is in use{by}, which is not an access service of refreshd",
                f"Stop that program, or choose another {key}.",
            )
        case None:
            _check_place(outline, access, report, say)


def _check_place(outline: AccessOutline, access: AccessTable, report: Report, say: Say) -> None:
    """Check whether a service could listen here."""
    if outline.socket is not None:
        directory = outline.socket.parent
        if directory.is_dir() and os.access(directory, os.W_OK | os.X_OK):
            report.passed("access.socket", f"no access service runs here; {outline.socket} can be made")
        else:
            what = f"{directory} is not a directory that this user may write to"
            say("access.socket", what, "Create it, or correct its owner and mode.")
        return
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(
            access.host, access.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found)
    except OSError as why:
        if why.errno == errno.EADDRNOTAVAIL:
            report.skipped("access.host", f"{access.host} is not an address of this machine")
        else:
            say(
                "access.port",
                f"refreshd can't listen on {access.host}:{access.port} ({why.strerror or why})",
                "Choose another address or port.",
            )
    else:
        report.passed("access.port", f"no access service runs here; {access.host}:{access.port} is free")

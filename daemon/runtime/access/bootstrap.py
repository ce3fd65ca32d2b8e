"""The access service's composition root: it connects the use cases of applications to their adapters and routes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from daemon.adapters.mongo.audit import Record
from daemon.adapters.mongo.connecting.consent_requests import ConsentRequests
from daemon.adapters.mongo.connecting.unfinished_consents import UnfinishedConsents
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.serving.access_audit import AccessDeeds
from daemon.adapters.mongo.serving.lists import ServedLists
from daemon.adapters.mongo.serving.remembered_keys import ServedKeys
from daemon.adapters.mongo.serving.tokens import ServedTokens
from daemon.adapters.mongo.serving.writes import ServedWrites
from daemon.domain.use import UNAUTHORIZED
from daemon.runtime.access_web.connect_routes import ConnectRoutes
from daemon.runtime.access_web.list_routes import ListRoutes
from daemon.runtime.access_web.route_tables import Note, write_table
from daemon.runtime.access_web.routes import Route
from daemon.runtime.access_web.write_routes import WriteRoutes
from daemon.runtime.clock import Clock
from daemon.runtime.config.access import AccessSettings
from daemon.serving.anomalies import Anomalies
from daemon.serving.doorkeeper import Doorkeeper
from daemon.serving.following import Following
from daemon.serving.link_rules import LinkRules
from daemon.serving.links import Links
from daemon.serving.listing import Listing
from daemon.serving.owner_browser import OwnerBrowser
from daemon.serving.reading import Reading
from daemon.serving.usage import Usage
from daemon.serving.writing import Writing


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessParts:
    """What the use cases share. `record` receives each record of the audit, `note` each use."""

    settings: AccessSettings
    mongo: Mongo
    clock: Clock
    tokens: ServedTokens
    keys: ServedKeys
    anomalies: Anomalies
    usage: Usage
    record: Callable[[Record], None]
    note: Note


def doorkeeper_of(parts: AccessParts) -> Doorkeeper:
    """Build what admits callers with access keys."""
    access = parts.settings.access
    return Doorkeeper(
        parts.keys,
        parts.clock,
        rate=access.rate,
        rate_per_caller=access.rate_per_caller,
        failed=parts.anomalies.failed,
        refused=lambda caller: parts.usage.note(caller, None, UNAUTHORIZED),
    )


def reading_of(parts: AccessParts) -> Reading:
    """Build the use case that hands access tokens out."""
    settings = parts.settings
    return Reading(
        parts.tokens,
        settings.keys,
        parts.clock,
        definitions=lambda: settings.definitions,
        fresh_for=settings.access.fresh_for,
        reconnect_url=settings.access.reconnect_url,
        refused_again=parts.anomalies.refused_again,
    )


def writing_table(parts: AccessParts) -> list[Route]:
    """Build the routes that write, list and count tokens."""
    settings = parts.settings
    writing = Writing(
        _writes(parts),
        parts.clock,
        providers=lambda: settings.providers,
        timing=settings.timing,
        can_seal=settings.keys.writer is not None,
        device_changed=parts.anomalies.device_changed,
    )
    deeds = AccessDeeds(parts.mongo, log=parts.record)
    listing = Listing(ServedLists(parts.mongo), writing, UnfinishedConsents(parts.mongo), deeds)
    routes = WriteRoutes(writing, listing, parts.clock)
    return write_table(routes, ListRoutes(listing, parts.clock), note=parts.note)


def connecting_table(parts: AccessParts, public_url: Callable[[], str | None]) -> list[Route]:
    """Build the routes by which applications connect accounts. `public_url`: where browsers reach the service."""
    settings, clock = parts.settings, parts.clock
    consents = ConsentRequests(parts.mongo, keyring=lambda: settings.keys)
    deeds = AccessDeeds(parts.mongo, log=parts.record)
    rules = LinkRules(return_urls=settings.access.return_urls, unbound=settings.access.unbound_connect)
    following = Following(consents, clock, pause=lambda span: asyncio.sleep(span.total_seconds()))
    links = Links(
        consents,
        _writes(parts),
        deeds,
        clock,
        rules=rules,
        following=following,
        providers=lambda: settings.providers,
        can_seal=settings.keys.seals_codes,
    )
    browser = OwnerBrowser(
        consents,
        parts.keys,
        deeds,
        clock,
        rules=rules,
        following=following,
        providers=lambda: settings.providers,
    )
    return ConnectRoutes(links, browser, public_url=public_url, note=parts.note).table()


def _writes(parts: AccessParts) -> ServedWrites:
    return ServedWrites(parts.mongo, parts.settings.keys, log=parts.record, changed=parts.tokens.forget)

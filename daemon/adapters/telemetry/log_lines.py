"""The table of log lines: the name of each event, its level, and what an operator does about it.

Names and levels are an interface: docs/operate.md lists them, and operators filter by them.
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One kind of line. `do`: the same advice in every such line. If the advice depends on the case, the caller gives
    it as a field.
    """

    event: str
    level: Level
    do: str | None = None


DAEMON_STARTED = LogLine("daemon.started", "info")
DAEMON_FAILED = LogLine("daemon.failed", "error")
DAEMON_STOPPING = LogLine("daemon.stopping", "info")
DAEMON_STOPPED = LogLine("daemon.stopped", "info")
DAEMON_CUT_OFF = LogLine(
    "daemon.cut_off",
    "error",
    "find what hung by the names in running: a disk, MongoDB, or a program that does not read the log; start again, and"
    " the journal is replayed",
)

ACCESS_STARTED = LogLine("access.started", "info")
ACCESS_STOPPING = LogLine("access.stopping", "info")
ACCESS_STOPPED = LogLine("access.stopped", "info")
ACCESS_CUT_OFF = LogLine(
    "access.cut_off",
    "error",
    "find what hung by the names in running: a disk, MongoDB, or a program that does not read the log",
)
ACCESS_WITH_RING = LogLine(
    "access.with_ring",
    "warning",
    "give the access service reader and writer keys in place of the ring: it needs no key that opens refresh tokens",
)
ACCESS_POLLING = LogLine(
    "access.polling",
    "info",
    "give the service's MongoDB user the privilege changeStream, on a replica set; until then each token is read again"
    " after two seconds",
)

DEMO_ACCESS_READY = LogLine("demo.access_ready", "info")
DEMO_ACCESS_FAILED = LogLine(
    "demo.access_failed",
    "warning",
    "correct what the message or the line before it names, and start the demo again; the daemon renews tokens without it",
)

ACCESS_ISSUER_LOST = LogLine(
    "access.issuer_lost",
    "error",
    "make the issuer's key set available again: an hour after the last reading its workloads get no tokens",
)
ACCESS_ISSUER_BACK = LogLine("access.issuer_back", "info")
ACCESS_JWT_REFUSED = LogLine(
    "access.jwt_refused",
    "warning",
    "compare the workload's JWT with [[access.issuers]]; docs/workloads.md explains each reason",
)

SWEEP_FINISHED = LogLine("sweep.finished", "info")
SWEEP_IDLE = LogLine("sweep.finished", "debug")
SWEEP_FAILED = LogLine("sweep.failed", "error")

TOKEN_RENEWED = LogLine("token.renewed", "info")
TOKEN_CONNECTED = LogLine("token.connected", "info")
TOKEN_POSTPONED = LogLine("token.postponed", "warning")
TOKEN_NEEDS_REAUTH = LogLine("token.needs_reauth", "error")
TOKEN_SUPERSEDED = LogLine("token.superseded", "warning")
TOKEN_UNPARSED = LogLine("token.unparsed", "error")
TOKEN_STUCK = LogLine(
    "token.stuck", "warning", "let the owner consent again, or remove the token if you no longer need it"
)
TOKEN_UNREADABLE = LogLine("token.unreadable", "error")
TOKEN_IN_DOUBT = LogLine("token.in_doubt", "warning")
TOKEN_HELD = LogLine("token.held", "warning")
TOKEN_ENDING = LogLine("token.ending", "warning")
TOKEN_REMOVED = LogLine("token.removed", "info")
TOKEN_REVOKED = LogLine("token.revoked", "info")
TOKEN_REVOCATION_POSTPONED = LogLine("token.revocation_postponed", "warning")
TOKEN_REVOCATION_FAILED = LogLine(
    "token.revocation_failed",
    "error",
    "the grant is still valid: correct the cause, or let its owner end it at the provider and remove the token",
)
TOKEN_LATE_REPLY_REVOKED = LogLine("token.late_reply_revoked", "warning")
TOKEN_UNDATED = LogLine(
    "token.undated",
    "warning",
    "check what the application writes to due_at; refreshd has made the token due now",
)

PROVIDER_PAUSED = LogLine("provider.paused", "error")
PROVIDER_RESUMED = LogLine("provider.resumed", "info")
PROVIDER_MOVED = LogLine(
    "provider.moved",
    "warning",
    "if this was not intended, restore the former URL: tokens, secrets or owners are sent to the new one",
)
PROVIDER_DRIFTED = LogLine(
    "provider.drifted",
    "warning",
    "compare the provider's page with its definition, and correct the definition: docs/how-a-definition-is-proven.md",
)

LANE_FAILED = LogLine(
    "lane.failed",
    "error",
    "report a bug with the internal.error line; a document that refreshd can't process is another cause",
)
LANE_BACK = LogLine("lane.back", "info")

INTERNAL_ERROR = LogLine(
    "internal.error", "error", "report a bug of refreshd with this line; a restart is safe"
)

JOURNAL_REPLAYED = LogLine("journal.replayed", "info")
JOURNAL_UNUSABLE = LogLine("journal.unusable", "error")

EVENTS_LOST = LogLine(
    "events.lost",
    "error",
    "compare the receiver's data with `refreshd show ID`; if they were malformed, find the program that writes to the field"
    " `events` of tokens",
)
EVENTS_REFUSED = LogLine(
    "events.refused",
    "error",
    "give the daemon's MongoDB user insert on the outbox collection, and drop other programs' validators and indexes there",
)
HOOK_DELIVERED = LogLine("hook.delivered", "debug")
HOOK_FAILED = LogLine(
    "hook.failed",
    "warning",
    "see what the receiver answers with `refreshd hooks test NAME`; its events wait, and are sent again for 30 days",
)
HOOK_BACK = LogLine("hook.back", "info")
HOOK_DISABLED = LogLine(
    "hook.disabled",
    "error",
    "the receiver says that it is gone: correct its section [[hooks]] and reload, or run `refreshd hooks release NAME`",
)
HOOK_DROPPED = LogLine(
    "hook.dropped",
    "error",
    "these events are 30 days old and will not be sent; compare the receiver's data with `refreshd list --state needs_reauth`",
)
HOOK_MALFORMED = LogLine(
    "hook.malformed",
    "warning",
    "another program writes to the outbox collection: find it, and take its right to write away",
)
HOOK_REFUSED = LogLine(
    "hook.refused",
    "error",
    "give the daemon's MongoDB user its rights on the outbox and hooks collections; docs/install.md lists them",
)
MIRROR_FAILED = LogLine("mirror.failed", "error")
MIRROR_BACK = LogLine("mirror.back", "info")
MIRROR_REFUSED = LogLine(
    "mirror.refused",
    "warning",
    "compare the two sides with `refreshd compare`, and correct the one that is wrong",
)

STORE_LOST = LogLine("store.lost", "error")
STORE_BACK = LogLine("store.back", "info")
STORE_OUTDATED = LogLine("store.outdated", "warning", "point store.uri at a MongoDB of your own")
STORE_STANDALONE = LogLine("store.standalone", "warning", "make it a replica set, even with a single member")
STORE_MISPLACED = LogLine("store.misplaced", "error")
STORE_INDEX_HARMFUL = LogLine("store.index_harmful", "error")
STORE_INDEX_REFUSED = LogLine(
    "store.index_refused",
    "warning",
    "give refreshd's MongoDB user the right createIndex there, or drop the index that conflicts; what uses the index"
    " reads every document until then",
)
STORE_INDEXING = LogLine("store.indexing", "info")
STORE_INDEXED = LogLine("store.indexed", "info")
STORE_REFUSED = LogLine(
    "store.refused",
    "warning",
    "grant the privileges that `refreshd check` lists; renewals work without them",
)

WISHES_LOST = LogLine(
    "wishes.lost",
    "warning",
    "`refreshd check` names a missing privilege; until the change stream is there, a requested renewal waits for the"
    " next sweep",
)
WISHES_BACK = LogLine("wishes.back", "info")

CONNECT_FAILED = LogLine("connect.failed", "warning")
CONNECT_REFUSED = LogLine(
    "connect.refused",
    "warning",
    "give refreshd's MongoDB user find, insert, update and createIndex on the collection of consents; until then"
    " `refreshd connect` has no effect",
)

COUNT_FAILED = LogLine(
    "count.failed",
    "warning",
    "check MongoDB's load; renewals go on, but figures of the whole store are outdated until a count succeeds",
)

_RESTORE_KEY = (
    "restore the key that sealed this store under its id in [keys.ring], and add a new key under a new id"
)
KEYS_WRONG = LogLine("keys.wrong", "error", _RESTORE_KEY)
KEYS_RIGHT = LogLine("keys.right", "info")
KEYS_REFUSED = LogLine("keys.refused", "error", _RESTORE_KEY)

SECRET_ANSWERED = LogLine("secret.answered", "info")
SECRET_AWAY = LogLine(
    "secret.away",
    "error",
    "check the source and the rights that it grants: docs/secrets.md; refreshd asks again until it answers",
)
SECRET_KEPT = LogLine(
    "secret.kept",
    "warning",
    "check the source and the rights that it grants: docs/secrets.md; until then the former secret stays in use",
)
CLIENT_CHANGED = LogLine("provider.client_changed", "info")

MONGOD_DIED = LogLine(
    "mongod.died",
    "error",
    "look for the cause in mongodb/mongod.log in the state directory; refreshd restarts mongod",
)
MONGOD_FAILED = LogLine("mongod.failed", "error")

STATE_CLOSED = LogLine("state.closed", "warning")
STATE_VOLATILE = LogLine(
    "state.volatile",
    "warning",
    "choose a directory on a disk that lasts: the journal may hold the only copy of a token",
)

RELOAD_DONE = LogLine("reload.done", "info")
RELOAD_REFUSED = LogLine(
    "reload.refused",
    "error",
    "correct the problems and reload again; the earlier configuration stays in use",
)

AUDIT_RECORDED = LogLine("audit.recorded", "info")
AUDIT_LOST = LogLine(
    "audit.lost", "warning", "keep this line: the audit in MongoDB has no record of the change"
)

ANOMALY_DETECTED = LogLine(
    "anomaly.detected", "warning", "look up the kind in docs/operate.md, under RefreshdAnomalies"
)

WATCHDOG_STARVED = LogLine(
    "watchdog.starved",
    "error",
    "check MongoDB and the machine's load; if no sweep starts, the service manager restarts this process",
)

LOG_LEFT_OUT = LogLine("log.left_out", "info")
LIBRARY_WARNING = LogLine("library.message", "warning")
LIBRARY_ERROR = LogLine("library.message", "error")

ALL = tuple(line for line in list(globals().values()) if isinstance(line, LogLine))

"""A local OAuth 2.0 server for trying, rehearsing and testing. It shares no code with the daemon.

It is a stranger on purpose: were it built from the daemon's own parts, a daemon that misreads RFC 6749 would agree
with itself and every test would be green. `options` has its settings, `grants` holds the truth by a provider's
`terms`, `demands` and `clients` say who may ask and how, `dialects` how the truth is worded (`recorded` reads them from
`fixtures/`), `faults` when it misbehaves, `misbehaviour` how, `server` the routes.

A consent has a record of its own, `consents`. `accents` says how a provider's consent differs, `authorization` and
`device` take the requests, `pages` and `browser` show the owner's side, `revocation` takes tokens back.
"""

from daemon.sandbox.options import SandboxOptions
from daemon.sandbox.server import Sandbox

__all__ = ["Sandbox", "SandboxOptions"]

"""The demo's sandbox as a provider: its URLs and its client, which the daemon writes into the state directory, so that
commands reach it too.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from daemon.adapters.trusted_files import Untrusted, read_own, write_own
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.runtime.config.providers.definitions import shipped

PROVIDER = "sandbox"
SANDBOX_FILE = "demo-sandbox.json"


def provider_of(line: Mapping[str, str | None], *, share: int) -> Provider:
    """Return the provider for a line that a sandbox prints. Raises KeyError if a member is missing."""
    definition = replace(
        shipped()[PROVIDER],
        token_url=line["token_url"] or "",
        authorize_url=line["authorize_url"],
        device_url=line["device_url"],
        revoke_url=line["revoke_url"],
    )
    return Provider(
        definition=definition,
        client_id=line["client_id"] or "",
        client_secret=Secret(line["client_secret"] or ""),
        share=share,
    )


def write_sandbox(directory: Path, line: Mapping[str, str | None]) -> None:
    """Write the line of the running sandbox, for this user alone. Raises OSError."""
    write_own(directory / SANDBOX_FILE, json.dumps(line) + "\n")


def forget_sandbox(directory: Path) -> None:
    """Remove the line of a sandbox that has stopped."""
    with suppress(OSError):
        (directory / SANDBOX_FILE).unlink()


def running_sandbox(directory: Path, *, share: int) -> Provider | None:
    """Return the demo's provider, or None if no demo is running."""
    try:
        line = json.loads(read_own(directory / SANDBOX_FILE))
        return provider_of(line, share=share)
    except (OSError, Untrusted, ValueError, KeyError, TypeError):
        return None

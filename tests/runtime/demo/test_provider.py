"""The demo's sandbox, as commands find it in the state directory."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.runtime.demo.provider import (
    SANDBOX_FILE,
    forget_sandbox,
    provider_of,
    running_sandbox,
    write_sandbox,
)
from daemon.sandbox import Sandbox

LINE = Sandbox().describe()


def test_a_command_finds_the_provider_that_the_daemon_has(tmp_path: Path):
    write_sandbox(tmp_path, LINE)
    found = running_sandbox(tmp_path, share=4)
    assert found == provider_of(LINE, share=4)
    assert found is not None
    definition = found.definition
    urls = (definition.token_url, definition.authorize_url, definition.device_url, definition.revoke_url)
    assert urls == tuple(LINE[name] for name in ("token_url", "authorize_url", "device_url", "revoke_url"))
    assert found.client_secret is not None
    assert found.client_secret.reveal() == LINE["client_secret"]
    assert (tmp_path / SANDBOX_FILE).stat().st_mode & 0o777 == 0o600


def test_after_the_demo_there_is_none(tmp_path: Path):
    """A second removal is no fault."""
    write_sandbox(tmp_path, LINE)
    forget_sandbox(tmp_path)
    forget_sandbox(tmp_path)
    assert running_sandbox(tmp_path, share=4) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_text(""),
        lambda file: file.write_text("[1]"),
        lambda file: file.write_text(json.dumps({"token_url": LINE["token_url"]})),
        lambda file: file.chmod(0o644),
        lambda file: file.rename(file.with_name("other")) and file.symlink_to("other"),
    ],
    ids=["missing", "empty", "another shape", "half", "open to others", "a link"],
)
def test_a_file_that_the_demo_has_not_written_is_none(tmp_path: Path, spoil: Callable[[Path], object]):
    """The commands then report that the provider is not configured."""
    write_sandbox(tmp_path, LINE)
    spoil(tmp_path / SANDBOX_FILE)
    assert running_sandbox(tmp_path, share=4) is None

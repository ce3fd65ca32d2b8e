"""The notation of secrets: one source, or a list of sources that are asked in turn.

The next source of a list is asked if one says that the secret does not exist. With `fall_back = "always"` it is also
asked if that one is away. Nothing is read here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from daemon.adapters.secrets.command import check_program
from daemon.adapters.trusted_files import Untrusted
from daemon.domain.secret_reference import (
    AwsParameter,
    AwsSecret,
    AzureSecret,
    Command,
    GcpSecret,
    Reference,
    VaultSecret,
    place_of,
    source_name,
)
from daemon.runtime.config.fields import duration
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.wrapped_keys import wrapped_key

FORMS = 'Write the text itself, or one of { env = "NAME" }, { file = "PATH" } and { credential = "NAME" }; docs/secrets.md has more.'
USUAL_TIMEOUT, LONGEST_TIMEOUT = timedelta(seconds=10), timedelta(minutes=1)
_MOST = 8  # sources in a list
_GCP = re.compile(r"projects/[^/\s]+/(locations/[^/\s]+/)?secrets/[^/\s]+(/versions/[^/\s]+)?")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_KINDS = (
    "env",
    "file",
    "credential",
    "aws_secret",
    "aws_ssm",
    "vault",
    "gcp_secret",
    "azure_secret",
    "command",
    "kms",
)
_OUTSIDE = _KINDS[3:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """A source on this machine: an environment variable, a file or a credential of systemd."""

    kind: str
    name: str


Source = Local | Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A source. `always`: the next one is asked even if this one is away."""

    source: Source
    always: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The sources of one secret, in the order in which they are asked."""

    steps: tuple[Step, ...]

    @property
    def is_remote(self) -> bool:
        """Whether one of its sources may be away."""
        return any(not isinstance(step.source, Local) for step in self.steps)

    @property
    def can_change(self) -> bool:
        """Whether another value may be read while this process runs. Environment variables stay as they are."""
        return any(not isinstance(step.source, Local) or step.source.kind != "env" for step in self.steps)

    @property
    def places(self) -> tuple[Source, ...]:
        """Its sources without the fields of their secrets. Chains with the same places are read together."""
        return tuple(
            source if isinstance(source, Local) else place_of(source)
            for source in (step.source for step in self.steps)
        )

    @property
    def names(self) -> str:
        return ", then ".join(name_of(step.source) for step in self.steps)


def name_of(source: Source) -> str:
    """Return the name of `source` in the log. It holds no secret."""
    return f"{source.kind} {source.name}" if isinstance(source, Local) else source_name(source)


def chain_of(value: object) -> Chain | None:
    """Return the sources in `value`, or None if it is the secret itself. Raises InvalidValue."""
    if isinstance(value, str):
        return None
    if not isinstance(value, list):
        step = _step(value)
        if isinstance(value, Mapping) and "fall_back" in value:
            raise InvalidValue("fall_back stands in a list of sources only", "Remove fall_back.")
        return Chain(steps=(step,))
    if not value or len(value) > _MOST:
        raise InvalidValue(f"is not a list of 1 to {_MOST} sources", FORMS)
    steps = tuple(_step(one) for one in value)
    if steps[-1].always:
        raise InvalidValue(
            "fall_back stands at the last source, after which there is none", "Remove fall_back."
        )
    return Chain(steps=steps)


def _step(value: object) -> Step:
    kinds = [kind for kind in _KINDS if isinstance(value, Mapping) and kind in value]
    if not isinstance(value, Mapping) or len(kinds) != 1:
        raise InvalidValue("is not a secret in a supported form", FORMS)
    plain = {key: inner for key, inner in value.items() if key != "fall_back"}
    if value.get("fall_back", "always") != "always":
        raise InvalidValue("fall_back has only one value", 'Write fall_back = "always", or remove it.')
    (kind,) = kinds
    source = _OF_KIND[kind](plain) if kind in _OUTSIDE else _local(kind, plain)
    return Step(source=source, always="fall_back" in value)


def _local(kind: str, table: Mapping[str, object]) -> Local:
    name = table[kind]
    if len(table) > 1 or not isinstance(name, str):
        raise InvalidValue("is not a secret in a supported form", FORMS)
    return Local(kind=kind, name=name)


def _text(table: Mapping[str, object], key: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InvalidValue(f"{key} must be a non-empty string", "Write it in quotes.")
    return value


def _maybe(table: Mapping[str, object], key: str) -> str | None:
    return _text(table, key) if key in table else None


def _only(table: Mapping[str, object], *keys: str) -> None:
    for key in table:
        if key not in keys:
            raise InvalidValue(f"{keys[0]} takes no key of the name {key!r}", f"Use only: {', '.join(keys)}.")


def _region(table: Mapping[str, object]) -> str | None:
    region = _maybe(table, "region")
    if region is not None and not _REGION.fullmatch(region):
        raise InvalidValue("region is not the name of a region", 'Write it like "eu-central-1".')
    return region


def _aws_secret(table: Mapping[str, object]) -> Reference:
    _only(table, "aws_secret", "field", "region")
    return AwsSecret(name=_text(table, "aws_secret"), field=_maybe(table, "field"), region=_region(table))


def _aws_parameter(table: Mapping[str, object]) -> Reference:
    _only(table, "aws_ssm", "region")
    return AwsParameter(name=_text(table, "aws_ssm"), region=_region(table))


def _vault(table: Mapping[str, object]) -> Reference:
    _only(table, "vault")
    place, mark, field = _text(table, "vault").partition("#")
    mount, _, path = place.strip("/").partition("/")
    steps = path.split("/")
    if not (mark and mount and field) or any(step in ("", ".", "..") for step in steps):
        raise InvalidValue(
            "vault is not of the form mount/path#field", 'Write it like "secret/apps/xero#client_secret".'
        )
    return VaultSecret(mount=mount, path=path, field=field)


def _gcp(table: Mapping[str, object]) -> Reference:
    _only(table, "gcp_secret")
    name = _text(table, "gcp_secret")
    if not _GCP.fullmatch(name):
        raise InvalidValue(
            "gcp_secret is not a secret's resource name", 'Write it like "projects/PROJECT/secrets/NAME".'
        )
    return GcpSecret(name=name)


def _azure(table: Mapping[str, object]) -> Reference:
    _only(table, "azure_secret")
    url = _text(table, "azure_secret")
    try:
        parts = urlsplit(url)
        plain = (
            parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:
        plain, parts = False, urlsplit("")
    steps = parts.path.strip("/").split("/")
    if (
        not plain
        or parts.query
        or parts.fragment
        or steps[0] != "secrets"
        or len(steps) not in (2, 3)
        or not all(steps)
    ):
        raise InvalidValue(
            "azure_secret is not a secret's URL",
            'Write it like "https://VAULT.vault.azure.net/secrets/NAME".',
        )
    return AzureSecret(url=url)


def _command(table: Mapping[str, object]) -> Reference:
    _only(table, "command", "timeout")
    argv = table["command"]
    if isinstance(argv, str):
        raise InvalidValue(
            "command must be a list, and stand in the configuration file",
            'Write { command = ["/path/to/program", "argument"] } there. There is no shell.',
        )
    if (
        not isinstance(argv, list)
        or not argv
        or not all(isinstance(one, str) and "\0" not in one for one in argv)
    ):
        raise InvalidValue(
            "command must be a list of strings", 'Write { command = ["/path/to/program", "argument"] }.'
        )
    if not argv[0].startswith("/"):
        raise InvalidValue("command does not begin with an absolute path", "Write the program's whole path.")
    timeout = duration(table["timeout"]) if "timeout" in table else USUAL_TIMEOUT
    if not timedelta(0) < timeout <= LONGEST_TIMEOUT:
        raise InvalidValue("timeout is not between 1ms and 1m", 'Write one like "10s".')
    try:
        check_program(argv[0])
    except Untrusted as distrust:
        raise InvalidValue(distrust.what, distrust.do) from None
    except OSError as error:
        raise InvalidValue(
            f"{argv[0]} can't be run: {error.strerror}", "Correct the path, or the program's owner and mode."
        ) from None
    return Command(argv=tuple(argv), timeout=timeout)


_OF_KIND: Mapping[str, Callable[[Mapping[str, object]], Reference]] = {
    "aws_secret": _aws_secret,
    "aws_ssm": _aws_parameter,
    "vault": _vault,
    "gcp_secret": _gcp,
    "azure_secret": _azure,
    "command": _command,
    "kms": wrapped_key,
}

"""References to secrets that stand outside this machine's files: in a secret store, or in the output of a command."""

from dataclasses import dataclass, field, replace
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSecret:
    """A secret of AWS Secrets Manager. `field`: a key of the JSON object that it holds."""

    name: str
    field: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsParameter:
    """A parameter of AWS Systems Manager."""

    name: str
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSecret:
    """A field of a secret in Vault's key-value store, version 2."""

    mount: str
    path: str
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GcpSecret:
    """A secret of Google Cloud, as `projects/PROJECT/secrets/NAME`, with `/versions/VERSION` if not the latest."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSecret:
    """A secret of an Azure Key Vault, by its URL."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A key of the ring, encrypted by AWS KMS for one installation and one key id. It opens nothing without KMS."""

    kms_key: str  # an ARN
    wrapped: str = field(repr=False)  # base64 of the ciphertext
    key_id: str
    installation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program that prints a secret. Its arguments may hold secrets, so no message shows them."""

    argv: tuple[str, ...]
    timeout: timedelta = timedelta(seconds=10)

    def __repr__(self) -> str:
        return f"Command({self.argv[0]!r})"


Reference = AwsSecret | AwsParameter | VaultSecret | GcpSecret | AzureSecret | WrappedKey | Command


def source_name(reference: Reference) -> str:
    """Return the name of a source in the log, the metrics and the probes. It holds no secret."""
    match reference:
        case AwsSecret():
            return f"aws_secret {reference.name}{f'#{reference.field}' if reference.field else ''}"
        case AwsParameter():
            return f"aws_ssm {reference.name}"
        case VaultSecret():
            return f"vault {reference.mount}/{reference.path}#{reference.field}"
        case GcpSecret():
            return f"gcp_secret {reference.name}"
        case AzureSecret():
            return f"azure_secret {reference.url}"
        case WrappedKey():
            return f"kms {reference.kms_key}"
        case Command():
            return f"command {reference.argv[0]}"


def place_of(reference: Reference) -> Reference:
    """Return `reference` without its field: two secrets of one place are read together."""
    match reference:
        case AwsSecret():
            return replace(reference, field=None)
        case VaultSecret():
            return replace(reference, field="")
        case _:
            return reference

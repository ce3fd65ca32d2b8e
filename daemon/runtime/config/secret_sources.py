"""Sources of secrets: the text itself, `{ env }`, `{ file }` or `{ credential }`; and keys and the store's
URI.

They are read while the tables are checked, so that a missing file is one problem among the others. Lists and sources
outside this machine are read before that, by `secret_reading`. One that has not answered, or was not asked, is an
empty text here: the code that asked for it acts on that. No message quotes a secret.
"""

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from daemon.adapters.mongo.address import files_of
from daemon.adapters.trusted_files import Untrusted, read_trusted, require_file, trust
from daemon.domain.secret import Secret
from daemon.runtime.config.fields import Context, Read, flag
from daemon.runtime.config.problems import InvalidValue, Problem
from daemon.runtime.config.secret_chains import FORMS, Chain, Local, chain_of
from daemon.runtime.config.secret_reading import Absent, Answer, Faulty, Found
from daemon.runtime.config.weak_key import weakness

EMBEDDED: Literal["embedded"] = "embedded"
KEY_BYTES = 32
_LARGEST = 1 << 20  # bytes; a secret is text, so a larger file is the wrong one
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BEARER = re.compile(r"[\x21-\x7e]+")
_MAKE_KEY = "Make one with `refreshd keys generate`."
_REPLACE = "If tokens are sealed with this one, rotate it with the earlier version first: docs/security.md."


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretContext:
    """What references to secrets are resolved with. `exposed`: variables from an env file that every local user can read."""

    directory: Path  # of the configuration file
    variables: Mapping[str, str] = field(repr=False)
    exposed: frozenset[str] = frozenset()
    loose: list[Problem] = field(default_factory=list)  # files that more users can read than need to
    may_create: bool = False  # [demo]: a key may be made when it is first needed
    answers: Mapping[Chain, Answer] = field(
        default_factory=dict, repr=False
    )  # of the sources that were asked

    def local(self, source: Local) -> str:
        """Return the text of a source on this machine. Raises InvalidValue."""
        return _from_machine(source, self)


def world_readable(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def secret(value: object, info: Context) -> Secret:
    """Return the secret that `value` is or refers to. Raises InvalidValue."""
    return Secret(_fetched(value, _context_of(info)))


def bearer_token(value: object, info: Context) -> Secret:
    token = secret(value, info)
    if not token:
        return token
    if not _BEARER.fullmatch(token.reveal()):
        raise InvalidValue(
            "contains spaces or characters outside ASCII", "Use only ASCII letters, digits and punctuation."
        )
    return token


def key(value: object, info: Context) -> bytes:
    """Return 32 bytes from base64 or 64 hex digits. A weak key, like 32 equal bytes, is refused."""
    context = _context_of(info)
    if isinstance(value, Mapping) and "create" in value:
        value = _created(value, context)
    encoded = _fetched(one_source(value), context).strip()
    if not encoded:
        return b""
    raw = _decoded(encoded)
    if raw is None or len(raw) != KEY_BYTES:
        raise InvalidValue(f"is not a key of {KEY_BYTES} bytes in base64 or 64 hex digits", _MAKE_KEY)
    if (why := weakness(raw)) is not None:
        raise InvalidValue(f"is a weak key: {why}", f"{_MAKE_KEY} {_REPLACE}")
    return raw


def one_source(value: object) -> object:
    """Return `value` unless it is a list. If another source could answer with another key, tokens would be sealed with
    the wrong one.
    """
    if isinstance(value, list):
        raise InvalidValue("is a key, which has one source and no list of them", "Write the one source.")
    return value


def key_id(value: object) -> str:
    if not isinstance(value, str) or not _KEY_ID.fullmatch(value):
        raise InvalidValue("is not a key id", "Use 1 to 64 of A to Z, a to z, 0 to 9, '_' and '-'.")
    return value


def store_uri(value: object, info: Context) -> Secret | Literal["embedded"]:
    """Return the word "embedded" or a MongoDB connection string. Whether it works is checked later."""
    uri = _fetched(value, _context_of(info))
    if uri == EMBEDDED:
        return EMBEDDED
    if not uri:
        return Secret("")
    scheme, _, rest = uri.partition("://")
    if scheme not in ("mongodb", "mongodb+srv"):
        raise InvalidValue(
            "is not a MongoDB URI", 'Write "mongodb://HOST/", "mongodb+srv://HOST/" or "embedded".'
        )
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if authority.count("@") > 1 or any(char.isspace() for char in uri):
        raise InvalidValue("contains a reserved character", "Percent-encode the user name and the password.")
    if not authority.rpartition("@")[2]:
        raise InvalidValue("names no host", 'Write it like "mongodb://HOST:27017/".')
    try:
        for file in files_of(uri):
            trust(Path(file))
            require_file(Path(file))
    except Untrusted as distrust:
        raise InvalidValue(distrust.what, distrust.do) from None
    except OSError as error:
        raise InvalidValue(
            f"names {file}: {error.strerror}", "Name a file with certificates in PEM."
        ) from None
    return Secret(uri)


def file_of(value: object, context: SecretContext) -> Path | None:
    """Return the file that a secret comes from, without opening it. None if it comes from elsewhere. Raises InvalidValue."""
    match value:
        case {"file": str(name), **rest} if not rest:
            return context.directory / name
        case {"credential": str(name), **rest} if not rest:
            directory = context.variables.get("CREDENTIALS_DIRECTORY")
            return Path(directory, name) if directory else None
        case _:
            chain_of(value)
            return None


def holds_password(uri: str) -> bool:
    rest = uri.partition("://")[2]
    user = rest.rpartition("@")[0]
    return bool(user.partition(":")[2]) or "password=" in rest.lower() or "session_token" in rest.lower()


SecretText = Annotated[Secret, Read(secret)]
BearerToken = Annotated[Secret, Read(bearer_token)]
KeyId = Annotated[str, Read(key_id)]
StoreUri = Annotated[Secret | Literal["embedded"], Read(store_uri)]


def _context_of(info: Context) -> SecretContext:
    if not isinstance(info.context, SecretContext):
        raise TypeError("secrets are read with SecretContext as context")
    return info.context


def _fetched(value: object, context: SecretContext) -> str:
    """Return the secret text, or "" if its source was not asked or has not answered."""
    if isinstance(value, Mapping) and "create" in value:
        raise InvalidValue("create is allowed for keys only", "Remove create.")
    chain = chain_of(value)
    if chain is None:
        found = str(value)
    elif len(chain.steps) == 1 and isinstance(source := chain.steps[0].source, Local):
        found = context.local(source)
    else:
        match context.answers.get(chain):
            case Found(text=text):
                found = text.reveal()
            case Faulty(what=what, do=do):
                raise InvalidValue(what, do)
            case _:
                return ""
    if not found.strip():
        raise InvalidValue("is empty", FORMS)
    return found


def is_unread(value: object, context: SecretContext) -> bool:
    """Return whether `value` has a source that was not asked or has not answered."""
    try:
        chain = chain_of(value)
    except InvalidValue:
        return False
    if chain is None or not (chain.is_remote or len(chain.steps) > 1):
        return False
    return not isinstance(context.answers.get(chain), Found | Faulty)


def _from_machine(source: Local, context: SecretContext) -> str:
    match source.kind:
        case "env":
            return _from_environment(source.name, context)
        case "file":
            return _from_file(context.directory / source.name, context, guarded=True)
        case _:
            return _from_credential(source.name, context)


def _from_environment(name: str, context: SecretContext) -> str:
    if not _ENV_NAME.fullmatch(name):
        raise InvalidValue("env must be the name of an environment variable", 'Write { env = "NAME" }.')
    if name not in context.variables:
        raise Absent(
            f"the environment variable {name} is not set", "Set it, or supply the secret in another way."
        )
    if name in context.exposed:
        raise InvalidValue(
            f"{name} comes from an env file that every local user can read", "Run chmod 600 on that file."
        )
    return _without_line_end(context.variables[name])


def _from_credential(name: str, context: SecretContext) -> str:
    directory = context.variables.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise Absent(
            "systemd has passed no credentials: $CREDENTIALS_DIRECTORY is not set",
            "Let systemd start refreshd with LoadCredential=, or supply the secret in another way.",
        )
    if "/" in name or name in ("", ".", ".."):
        raise InvalidValue("credential must be a name, not a path", 'Write { credential = "NAME" }.')
    return _from_file(Path(directory) / name, context, guarded=False)  # its directory is closed to others


def _from_file(path: Path, context: SecretContext, *, guarded: bool) -> str:
    """Return the text of a secret file, without one trailing newline."""
    try:
        file = read_trusted(path, limit=_LARGEST + 1)
    except Untrusted as distrust:
        raise InvalidValue(distrust.what, distrust.do) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a path"
        kind = Absent if isinstance(error, FileNotFoundError) else InvalidValue
        raise kind(f"{path} can't be read: {why}", "Correct the path, or the file's owner.") from None
    if guarded and file.everybody:
        raise InvalidValue(f"every local user can read {path}", f"chmod o-rwx {path}")
    if guarded and file.group is not None:
        what = f"the group {file.group}, which has other members, can read {path}"
        context.loose.append(
            Problem(where=str(path), what=what, do=f"chmod g-r {path}, or give it its own group.")
        )
    try:
        found = file.data.decode()
    except UnicodeDecodeError:
        raise InvalidValue(f"{path} is not text", "Store keys in files as base64 or hex digits.") from None
    if len(file.data) > _LARGEST:
        raise InvalidValue(f"{path} is too large for a secret", "Correct the path.")
    return _without_line_end(found)


def _without_line_end(text: str) -> str:
    """Return `text` without the one newline that editors, `echo` and secret stores append."""
    return re.sub(r"\r?\n\Z", "", text)


def _created(value: Mapping[str, object], context: SecretContext) -> dict[str, object]:
    """Return the reference without `create`, after making its file if needed."""
    plain = {name: inner for name, inner in value.items() if name != "create"}
    if not flag(value["create"]):
        return plain
    if not context.may_create:
        raise InvalidValue(
            "create is for [demo] only: a newly made key can't open stored tokens",
            f"Remove create. {_MAKE_KEY}",
        )
    name = plain.get("file")
    if isinstance(name, str) and not (context.directory / name).exists():
        try:
            _make_key(context.directory / name)
        except OSError as error:
            raise InvalidValue(
                f"{context.directory / name} can't be created: {error.strerror}",
                "Correct the path, or the directory's owner and mode.",
            ) from None
    return plain


def _make_key(path: Path) -> None:
    """Write a new random key to `path`, 0600. It is linked into place, so that another process never sees it
    incomplete.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was first: its key it is
    finally:
        draft.unlink()


def _decoded(encoded: str) -> bytes | None:
    if re.fullmatch(r"[0-9A-Fa-f]{64}", encoded):
        return bytes.fromhex(encoded)
    standard = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None

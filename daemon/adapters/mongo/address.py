"""The address in a MongoDB URI, without its password: for messages, warnings and the choice of a database."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qsl, unquote

_TRUE = frozenset({"true", "1"})
_FILES = ("tlscafile", "tlscertificatekeyfile", "tlscrlfile")
_INSECURE = ("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Hosts as the URI names them, perhaps with ports. `database` is its path, `login` its user name."""

    hosts: tuple[str, ...]
    login: str | None
    auth_source: str
    database: str | None
    tls: bool
    verified: bool  # with TLS: certificates and names are checked

    def __str__(self) -> str:
        return ",".join(self.hosts)

    @property
    def local(self) -> bool:
        """Return whether every host is this machine."""
        return all(map(_is_local, self.hosts))

    @property
    def refusal(self) -> str:
        """Return the sentence for rejected credentials."""
        if self.login is None:
            return f"MongoDB at {self} requires credentials, and the URI has none"
        return f"MongoDB at {self} rejected the credentials of {self.login} (authSource {self.auth_source})"


def address_of(uri: str) -> Address:
    """Return the address in `uri`. Never raises and sends no DNS query: parts that can't be parsed are left
    out.
    """
    scheme, _, rest = uri.partition("://")
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    user, _, hosts = authority.rpartition("@")
    name = user.partition(":")[0]
    options = {key.lower(): value for key, value in parse_qsl(query)}
    encrypted = options.get("tls", options.get("ssl", "true" if scheme == "mongodb+srv" else "false"))
    external = options.get("authmechanism", "").upper() in ("MONGODB-X509", "MONGODB-AWS", "GSSAPI", "PLAIN")
    return Address(
        hosts=tuple(unquote(host) for host in hosts.split(",") if host),
        login=unquote(name) or ("by certificate" if external else None),
        auth_source=options.get("authsource") or ("$external" if external else unquote(path) or "admin"),
        database=unquote(path) or None,
        tls=encrypted.lower() in _TRUE,
        verified=not any(options.get(name, "").lower() in _TRUE for name in _INSECURE),
    )


def files_of(uri: str) -> list[str]:
    """Return the certificates and keys that `uri` names. A user who can change them decides which servers
    MongoDB's driver trusts.
    """
    options = parse_qsl(uri.partition("?")[2])
    return [value for name, value in options if name.lower() in _FILES]


def _is_local(host: str) -> bool:
    """Return whether the host is a loopback address or a socket in the file system."""
    if host.startswith(("/", "localhost:")) or host == "localhost":
        return True
    bare = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return ip_address(bare).is_loopback
    except ValueError:
        return False

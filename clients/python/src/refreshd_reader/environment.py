"""The transport that the environment names."""

import os

from refreshd_reader.transport import Transport


def transport_from_env() -> Transport:
    """Return the transport for REFRESHD_URL, or else for MONGODB_URI. Raises ValueError if neither is set."""
    url, uri = os.environ.get("REFRESHD_URL"), os.environ.get("MONGODB_URI")
    if url:
        from refreshd_reader.http_transport import HttpTransport  # noqa: PLC0415

        return HttpTransport(url, _required("REFRESHD_ACCESS_KEY", "REFRESHD_URL"))
    if uri:
        from pathlib import Path  # noqa: PLC0415

        from refreshd_reader.mongo_transport import MongoTransport  # noqa: PLC0415

        return MongoTransport(uri, Path(_required("REFRESHD_READERS", "MONGODB_URI")))
    raise ValueError("set REFRESHD_URL and REFRESHD_ACCESS_KEY, or MONGODB_URI and REFRESHD_READERS")


def _required(name: str, beside: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"{beside} is set: set {name} too")
    return value

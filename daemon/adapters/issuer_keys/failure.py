"""The failure to get an issuer's keys."""


class ReadFailed(Exception):
    """The key set was not read. The text says why, and quotes nothing of it."""

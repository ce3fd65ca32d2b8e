"""Fixtures that several files of this room share."""

from tests.adapters.token_endpoint.servers import site, tls, trusted

__all__ = ["site", "tls", "trusted"]

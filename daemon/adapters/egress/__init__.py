"""Outgoing connections to other machines: names, addresses, TLS. Other wings may use it."""

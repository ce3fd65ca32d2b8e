"""The demo of a first run: a sandbox provider, a few tokens of it, and an access service."""

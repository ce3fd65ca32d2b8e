"""A local OAuth 2.0 server for trying, rehearsing and testing. It shares no code with the daemon."""

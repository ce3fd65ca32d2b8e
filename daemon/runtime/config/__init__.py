"""The configuration: its sources, its checks and its secrets."""

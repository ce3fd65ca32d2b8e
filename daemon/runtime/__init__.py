"""The running daemon: configuration, state directory, health server, and the bootstrap that fits the rooms together."""

"""The running daemon: configuration, state directory, health server, and the bootstrap that connects the
parts.
"""

"""What is built from, and what is built: the locked packages, what is known against them, and a release's files.

Nothing here is part of the daemon. Every program works without a network.
"""

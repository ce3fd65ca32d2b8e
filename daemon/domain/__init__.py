"""The rules about tokens, providers and answers. Pure: no I/O, no clock, no randomness, no library."""

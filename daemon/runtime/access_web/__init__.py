"""The routes of `refreshd serve`. Each is thin: parse, ask the use case, answer."""

"""How we touch the world: one library, one file. They fit the ports of `refreshing` by shape."""

"""How refreshd touches the world. A wing for each part of it; they fit the ports of `refreshing` by shape."""

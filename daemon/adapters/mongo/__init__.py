"""MongoDB: the tokens, their claims and their counts, and the mongod that refreshd starts itself."""

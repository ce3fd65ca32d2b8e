"""Events on their way: from a token's document to the outbox, and to each hook."""

"""The running access service: its life, its composition root, what it does beside requests."""

"""The figures of the whole store, counted by one replica for all."""

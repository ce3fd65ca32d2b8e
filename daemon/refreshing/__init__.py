"""The one use case: keeping tokens fresh. It knows the world only through its ports."""

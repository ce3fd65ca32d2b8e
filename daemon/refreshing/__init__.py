"""The one use case: keeping tokens fresh. It reaches everything outside through its ports."""

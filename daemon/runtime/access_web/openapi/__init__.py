"""The description of the access service in OpenAPI 3.1."""

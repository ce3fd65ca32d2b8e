"""The one part of the server that is reachable: its token endpoint and what belongs to it, at /o/."""

# mypy: disable-error-code="import-untyped"
# (Django has no type stubs)

from django.urls import include, path

urlpatterns = [path("o/", include("oauth2_provider.urls"))]

"""The parts of the server that are reachable: its endpoints and pages at /o/, and the page to sign in."""

# mypy: disable-error-code="import-untyped"
# (Django has no type stubs)

from django.contrib.auth.views import LoginView
from django.urls import include, path

urlpatterns = [path("o/", include("oauth2_provider.urls")), path("accounts/login/", LoginView.as_view())]

"""The step between two releases: oauthlib 4.0.1 asks its validator for a device code, and django-oauth-toolkit 3.4.1,
whose own view has checked the code by then, has no answer.
"""

# mypy: disable-error-code="import-untyped, misc"
# (Django has no type stubs)

from typing import Any

from oauth2_provider.models import get_device_grant_model
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.oauth2.rfc8628.grant_types.device_code import DeviceCodeGrant


class DeviceValidator(OAuth2Validator):
    """Finds the owner of a device code that the view has let through."""

    def validate_device_code(self, client_id: str, code: str, request: Any) -> object:
        grant = get_device_grant_model().objects.get(client_id=client_id, device_code=code)
        request.user, request.scopes = grant.user, grant.scope.split()
        return DeviceCodeGrant.DEVICE_CODE_AUTHORIZED

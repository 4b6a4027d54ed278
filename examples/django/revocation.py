"""What simplejwt cannot be told by settings: whether a token that it finds good was taken back."""

from urllib.parse import unquote

import httpx
from django.conf import settings
from jwt import PyJWKClientConnectionError
from rest_framework.exceptions import APIException
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken

# Whatever proxy the environment names, tokens go straight to the sidecar.
sidecar = httpx.Client(base_url=settings.SIDECAR, timeout=1, trust_env=False)


class Unavailable(APIException):
    """Nothing is known against the token; REST framework sends `wait` as Retry-After."""

    status_code = 503
    default_code = "temporarily_unavailable"
    wait = 1


class RevocableToken(AccessToken):
    """Named in `SIMPLE_JWT["AUTH_TOKEN_CLASSES"]`."""

    def __init__(self, token=None, verify=True):
        try:
            super().__init__(token, verify)
        except TokenError as error:
            # simplejwt says "invalid" (401) also when it could not fetch the keys.
            cause = error.__cause__ and error.__cause__.__cause__
            if isinstance(cause, PyJWKClientConnectionError):
                raise Unavailable from error
            raise

    def verify(self):
        super().verify()
        try:
            answer = sidecar.get("/", headers={"Authorization": b"Bearer " + self.token})
        except httpx.HTTPError as error:
            raise Unavailable from error
        if answer.status_code == 401:
            raise TokenError("Token is invalid")
        # The subject shows that it was the sidecar, and not whatever else listens there, that said 200.
        if answer.status_code != 200 or unquote(answer.headers.get("X-Auth-Subject", "")) != self["sub"]:
            raise Unavailable

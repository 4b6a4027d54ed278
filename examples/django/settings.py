"""A Django service that takes our access tokens: REST framework and simplejwt, by settings.

    pip install django djangorestframework djangorestframework-simplejwt httpx gunicorn cryptography
    DJANGO_SETTINGS_MODULE=settings ISSUER=https://issuer.example SIDECAR=http://127.0.0.1:8081 \\
        gunicorn 'django.core.wsgi:get_wsgi_application()'
"""

import os
import secrets

ISSUER = os.environ["ISSUER"]
SIDECAR = os.environ["SIDECAR"]

SIMPLE_JWT = {
    "ALGORITHM": "EdDSA",
    "JWK_URL": f"{ISSUER}/.well-known/jwks.json",
    "ISSUER": ISSUER,
    "AUDIENCE": os.environ.get("AUDIENCE", "api"),
    "USER_ID_CLAIM": "sub",
    "TOKEN_TYPE_CLAIM": None,  # simplejwt's own; ours say what they are in the header's `typ`
    "SIGNING_KEY": None,  # nothing is minted here
    "AUTH_TOKEN_CLASSES": ["revocation.RevocableToken"],  # the one line that asks the sidecar; without it: until `exp`
}
REST_FRAMEWORK = {
    # The user is the token's subject; no table of users is asked.
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"]
ROOT_URLCONF = "urls"
ALLOWED_HOSTS = os.environ.get("HOSTS", "127.0.0.1").split(",")
SECRET_KEY = secrets.token_hex()  # nothing signed by one process is read by another

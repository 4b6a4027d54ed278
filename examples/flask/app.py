"""A Flask service that takes our access tokens: flask-jwt-extended checks them and asks the sidecar as its blocklist.

    pip install flask flask-jwt-extended httpx gunicorn cryptography
    ISSUER=https://issuer.example SIDECAR=http://127.0.0.1:8081 gunicorn app:app
"""

import os
from urllib.parse import unquote

import httpx
from flask import Flask, abort, request
from flask_jwt_extended import JWTManager, get_jwt, get_jwt_identity, jwt_required
from jwt import InvalidTokenError, PyJWKClient, PyJWKClientConnectionError, PyJWKClientError
from werkzeug.exceptions import ServiceUnavailable

ISSUER = os.environ["ISSUER"]

app = Flask(__name__)
app.config.update(
    JWT_ALGORITHM="EdDSA",
    JWT_DECODE_ISSUER=ISSUER,
    JWT_DECODE_AUDIENCE=os.environ.get("AUDIENCE", "api"),
    JWT_TOKEN_LOCATION=["headers"],  # the sidecar is asked about the same header
)
tokens = JWTManager(app)
keys = PyJWKClient(f"{ISSUER}/.well-known/jwks.json", timeout=5)
# Whatever proxy the environment names, tokens go straight to the sidecar.
sidecar = httpx.Client(base_url=os.environ["SIDECAR"], timeout=1, trust_env=False)


@tokens.decode_key_loader
def key(header, _claims):
    try:
        return keys.get_signing_key(header.get("kid")).key
    except (PyJWKClientConnectionError, OSError) as error:  # nothing is known against the token
        raise ServiceUnavailable(retry_after=1) from error
    except PyJWKClientError as error:
        raise InvalidTokenError("no such key") from error


@tokens.token_in_blocklist_loader
def revoked(_header, claims):
    try:
        answer = sidecar.get("/", headers={"Authorization": request.headers["Authorization"]})
    except httpx.HTTPError as error:
        raise ServiceUnavailable(retry_after=1) from error
    # The subject shows that it was the sidecar, and not whatever else listens there, that said 200.
    if answer.status_code == 200 and unquote(answer.headers.get("X-Auth-Subject", "")) == claims["sub"]:
        return False
    if answer.status_code == 401:
        return True
    raise ServiceUnavailable(retry_after=answer.headers.get("Retry-After", 1))


@tokens.unauthorized_loader
def missing(_reason):
    return {"error": "unauthorized"}, 401, {"WWW-Authenticate": "Bearer"}


# Unless it is told otherwise, flask-jwt-extended answers 422 to a token that is none.
@tokens.invalid_token_loader
@tokens.expired_token_loader
@tokens.revoked_token_loader
def refused(*_):
    return {"error": "invalid_token"}, 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}


@app.get("/orders")
@jwt_required()
def orders():
    if "orders:read" not in get_jwt().get("scope", "").split():
        abort(403)
    return {"subject": get_jwt_identity()}

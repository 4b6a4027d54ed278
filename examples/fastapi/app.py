"""A FastAPI service that takes our access tokens: PyJWT checks them, the sidecar says whether they were taken back.

    pip install fastapi uvicorn httpx pyjwt[crypto]
    ISSUER=https://issuer.example SIDECAR=http://127.0.0.1:8081 uvicorn app:app
"""

import os
from typing import Annotated
from urllib.parse import unquote

import httpx
import jwt
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

ISSUER = os.environ["ISSUER"]
AUDIENCE = os.environ.get("AUDIENCE", "api")

keys = jwt.PyJWKClient(f"{ISSUER}/.well-known/jwks.json", timeout=5)
# Whatever proxy the environment names, tokens go straight to the sidecar.
sidecar = httpx.Client(base_url=os.environ["SIDECAR"], timeout=1, trust_env=False)
app = FastAPI()


def unauthorized():
    return HTTPException(401, "invalid_token", {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def unavailable(retry_after="1"):
    return HTTPException(503, "temporarily_unavailable", {"Retry-After": retry_after})


def verified(token):
    """The claims of a token that the issuer signed for us."""
    try:
        key = keys.get_signing_key_from_jwt(token)
        return jwt.decode(token, key, algorithms=["EdDSA"], issuer=ISSUER, audience=AUDIENCE)
    except (jwt.PyJWKClientConnectionError, OSError) as error:  # nothing is known against the token
        raise unavailable() from error
    except jwt.PyJWTError as error:
        raise unauthorized() from error


def refuse_if_revoked(token, subject):
    try:
        answer = sidecar.get("/", headers={"Authorization": f"Bearer {token}"})
    except httpx.HTTPError as error:
        raise unavailable() from error
    if answer.status_code == 401:
        raise unauthorized()
    # The subject shows that it was the sidecar, and not whatever else listens there, that said 200.
    if answer.status_code != 200 or unquote(answer.headers.get("X-Auth-Subject", "")) != subject:
        raise unavailable(answer.headers.get("Retry-After", "1"))


# Not `async`: FastAPI runs it in a thread, where waiting for keys or for the sidecar holds up nobody else.
def claims(wanted: SecurityScopes, bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]):
    told = verified(bearer.credentials)
    refuse_if_revoked(bearer.credentials, told["sub"])
    if not set(wanted.scopes) <= set(told.get("scope", "").split()):
        challenge = f'Bearer error="insufficient_scope", scope="{wanted.scope_str}"'
        raise HTTPException(403, "insufficient_scope", {"WWW-Authenticate": challenge})
    return told


@app.get("/orders")
def orders(token: Annotated[dict, Security(claims, scopes=["orders:read"])]):
    return {"subject": token["sub"]}

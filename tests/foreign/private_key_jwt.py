"""private_key_jwt (RFC 7523) as Authlib and PyJWT make it. Run with `make` first: it makes the client's key."""

import json
import os
import sys
import time
import uuid

import jwt
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey

from checks import check

CLIENT_ID = "worker"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
place = os.environ["RESCIND_PLACE"]
key_file = os.path.join(place, "worker.pem")

if sys.argv[1:] == ["make"]:
    made = Ed25519PrivateKey.generate()
    pkcs8 = serialization.PrivateFormat.PKCS8
    with open(os.open(key_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(made.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()))
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(made.public_key()))
    with open(os.path.join(place, "worker.json"), "w") as file:
        json.dump({"keys": [{**jwk, "kid": "worker-1", "alg": "EdDSA"}]}, file)
    sys.exit()

ISSUER = os.environ["RESCIND_ISSUER"]
TOKEN_ENDPOINT = f"{ISSUER}/oauth2/token"
pem = open(key_file).read()


class ForTheIssuer(PrivateKeyJWT):
    """Authlib's own are for the token endpoint and good for an hour; these are for the issuer, and for a minute."""

    alg = "EdDSA"

    def sign(self, auth, token_endpoint):
        key = OKPKey.import_key(auth.client_secret)
        return private_key_jwt_sign(key, auth.client_id, ISSUER, alg=self.alg, expires_in=60)


def by_authlib(method):
    session = OAuth2Session(
        CLIENT_ID,
        pem,
        token_endpoint_auth_method="private_key_jwt",
        revocation_endpoint_auth_method="private_key_jwt",
    )
    session.register_client_auth_method(method)
    return session


session = by_authlib(ForTheIssuer())
token = session.fetch_token(TOKEN_ENDPOINT, grant_type="client_credentials")
check(token["token_type"] == "Bearer", "Authlib: a token for an assertion")
told = session.introspect_token(f"{ISSUER}/oauth2/introspect", token=token["access_token"])
check(told.json()["active"] is True, "Authlib: introspection by an assertion")
gone = session.revoke_token(f"{ISSUER}/oauth2/revoke", token=token["access_token"])
check(gone.status_code == 200, "Authlib: revocation by an assertion")
own_defaults = OAuth2Session(CLIENT_ID, OKPKey.import_key(pem), token_endpoint_auth_method="private_key_jwt")
own_defaults.register_client_auth_method(PrivateKeyJWT(alg="EdDSA"))
try:
    own_defaults.fetch_token(TOKEN_ENDPOINT, grant_type="client_credentials")
    check(False, "Authlib: an assertion for the token endpoint is refused")
except OAuthError as error:
    check("aud" in error.description, "Authlib: an assertion for the token endpoint is refused, and told why")


def by_pyjwt(**changed):
    now = int(time.time())
    claims = {"iss": CLIENT_ID, "sub": CLIENT_ID, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4())}
    return jwt.encode({**claims, **changed}, pem, algorithm="EdDSA", headers={"kid": "worker-1"})


def ask(assertion):
    form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "client_assertion": assertion}
    return requests.post(TOKEN_ENDPOINT, data=form, timeout=10)


once = by_pyjwt()
check(ask(once).status_code == 200, "PyJWT: a token for an assertion")
again = ask(once)
check((again.status_code, again.json()["error"]) == (401, "invalid_client"), "PyJWT: which is good once")
wrong = ask(by_pyjwt(aud=TOKEN_ENDPOINT)).json()
check("issuer" in wrong["error_description"], "PyJWT: for the token endpoint it is refused, and told why")
own = requests.get(f"{ISSUER}/v1/keys", headers={"Client-Assertion": by_pyjwt()}, timeout=10)
check(own.status_code == 200, "PyJWT: an operator's call by an assertion")

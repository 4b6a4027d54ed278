"""PyJWT (with its PyJWKClient), joserfc and Authlib verify tokens of the running server from its JWKS URL."""

import jwt
import requests
from authlib.oauth2.rfc6750 import InvalidTokenError
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator

import verifiers
from server import AUDIENCE, CLIENT_ID, ISSUER, JWKS_URI, check, open_session

jwks = requests.get(JWKS_URI, timeout=10).json()
opened = open_session(subject="carol", scope="read")
token = opened["access_token"]
header, claims, signature = token.split(".")
flipped = ("A" if signature[0] != "A" else "B") + signature[1:]


def every(issuer, audience):
    return verifiers.all_of(jwks, issuer, audience, jwt.PyJWKClient(JWKS_URI)).items()


def refuses(verify, token):
    try:
        verify(token)
    except verifiers.OWN_ERRORS:
        return True
    return False


check(jwt.get_unverified_header(token)["typ"] == "at+jwt", "typ is at+jwt (RFC 9068 section 2.1)")
for name, verify in every(ISSUER, AUDIENCE):
    told = verify(token)
    check(told["sub"] == "carol" and told["client_id"] == CLIENT_ID, f"{name}: verifies our token from our JWKS URL")
    check(told["sid"] == opened["session_id"], f"{name}: reads its session")
    check(told["exp"] - told["iat"] == opened["expires_in"], f"{name}: lives as long as was said")
    check(refuses(verify, f"{header}.{claims}.{flipped}"), f"{name}: refuses it with a bit flipped")
for name, verify in every(ISSUER, "another"):
    check(refuses(verify, token), f"{name}: refuses it for another audience")
for name, verify in every("https://another.example", AUDIENCE):
    check(refuses(verify, token), f"{name}: refuses it from another issuer")


class Validator(JWTBearerTokenValidator):
    """Authlib's resource protector, which allows no choice of algorithm: what it does is said in docs/verifiers.md."""

    def get_jwks(self):
        return jwks


try:
    validator = Validator(ISSUER, AUDIENCE)
    validator.validate_token(validator.authenticate_token(token), ["read"], None)
    outcome = "accepts"
except InvalidTokenError:
    outcome = "refuses"
check(outcome == "refuses", "Authlib's JWTBearerTokenValidator refuses our algorithm, as documented")

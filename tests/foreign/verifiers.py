"""How a Python service checks our access tokens: one function per library, as its documentation recommends.

Each takes a token and raises when the token is no good. `typ` is not checked by any of the three: a service that
is shown ID tokens of the same issuer too must look at the header itself.
"""

import warnings

import joserfc.errors
import jwt
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

import authlib.deprecate  # noqa: F401  (it makes its own warnings be shown, so ours come after it)

warnings.filterwarnings("ignore", "(?s)authlib.jose module is deprecated|EdDSA is deprecated|Please `KeySet")
from authlib.jose import JsonWebKey, JsonWebToken  # noqa: E402
from authlib.jose.errors import JoseError as AuthlibError  # noqa: E402

LEEWAY = 60  # seconds: the most that ours allows
ALGORITHMS = ["EdDSA"]
REQUIRED = ("iss", "sub", "aud", "exp", "iat", "jti", "client_id")


class Source(jwt.PyJWKClient):
    """PyJWT's own client, with a key set that is at hand already."""

    def __init__(self, jwks):
        super().__init__("http://localhost/unused")
        self.jwks = jwks

    def fetch_data(self):
        return self.jwks


def pyjwt(client, issuer, audience, algorithms=ALGORITHMS):
    def verify(token):
        key = client.get_signing_key_from_jwt(token)
        options = {"require": list(REQUIRED)}
        return jwt.decode(
            token, key, algorithms=algorithms, issuer=issuer, audience=audience, leeway=LEEWAY, options=options
        )

    return verify


def joserfc_(jwks, issuer, audience, algorithms=ALGORITHMS):
    keys = KeySet.import_key_set(jwks)
    registry = joserfc_jwt.JWTClaimsRegistry(leeway=LEEWAY, **expected(issuer, audience))

    def verify(token):
        decoded = joserfc_jwt.decode(token, keys, algorithms=algorithms)
        registry.validate(decoded.claims)
        return decoded.claims

    return verify


def authlib(jwks, issuer, audience, algorithms=ALGORITHMS):
    keys = JsonWebKey.import_key_set(jwks)

    def verify(token):
        claims = JsonWebToken(algorithms).decode(token, keys, claims_options=expected(issuer, audience))
        claims.validate(leeway=LEEWAY)
        return dict(claims)

    return verify


def expected(issuer, audience):
    values = {"iss": issuer, "aud": audience}
    return {name: {"essential": True, **({"value": values[name]} if name in values else {})} for name in REQUIRED}


def all_of(jwks, issuer, audience, client=None, algorithms=ALGORITHMS):
    """Every verifier by the name its project goes by."""
    return {
        "PyJWT": pyjwt(client or Source(jwks), issuer, audience, algorithms),
        "joserfc": joserfc_(jwks, issuer, audience, algorithms),
        "Authlib": authlib(jwks, issuer, audience, algorithms),
    }


# What each library raises for a bad token; anything else is a surprise to the service that calls it.
OWN_ERRORS = (jwt.PyJWTError, joserfc.errors.JoseError, AuthlibError)

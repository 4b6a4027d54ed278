"""The signing algorithm's name changes from EdDSA to Ed25519 (RFC 9864), by a rotation, and back by a rollback.

One name per key, equal in its JWK and in the headers that it signs. What each library says meanwhile stands in
docs/verifiers.md, and fails here when it is no longer so.
"""

import json
import pathlib
import subprocess
import time

import jwt
import requests
from authlib.oauth2.rfc6750 import InvalidTokenError
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from jwt.algorithms import OKPAlgorithm

import verifiers
from server import AUDIENCE, CLIENT_ID, CLIENT_SECRET, ISSUER, JWKS_URI, check, open_session

HERE = pathlib.Path(__file__).parent
ONE, BOTH = ["EdDSA"], ["EdDSA", "Ed25519"]
EVERYONE = {"PyJWT", "joserfc", "Authlib", "jose", "oauth4webapi"}


def order(path, body=None):
    """Carries an order out, as soon as the rule has it."""
    while True:
        answer = requests.post(f"{ISSUER}/v1/keys{path}", auth=(CLIENT_ID, CLIENT_SECRET), json=body or {}, timeout=10)
        if answer.status_code != 409 or answer.json()["code"] != "too_early":
            check(answer.status_code == 200, f"POST /v1/keys{path}")
            return answer.json()
        time.sleep(0.1)


def fresh():
    """A new token; its header and its key's JWK go by the same name."""
    token = open_session()["access_token"]
    header, jwks = jwt.get_unverified_header(token), requests.get(JWKS_URI, timeout=10).json()
    (key,) = (key for key in jwks["keys"] if key["kid"] == header["kid"])
    check(key["alg"] == header["alg"], f"the JWK says {key['alg']}, as does the header")
    return token, header["alg"], jwks


def answer(verify, token):
    try:
        verify(token)
        return "accepts"
    except verifiers.OWN_ERRORS:
        return "refuses"
    except Exception as error:
        return type(error).__name__


def takers(token, jwks, algorithms):
    """Which libraries accept the token, told these names."""
    every = verifiers.all_of(jwks, ISSUER, AUDIENCE, algorithms=algorithms)
    answers = {library: answer(verify, token) for library, verify in every.items()}
    asked = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": jwks, "token": token, "algorithms": algorithms}
    told = subprocess.run(
        ["node", HERE / "algorithm.mjs"], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True
    )
    answers |= json.loads(told.stdout)
    print(answers)
    return {library for library, said in answers.items() if said == "accepts"}


def protector_accepts(token, jwks):
    """Authlib's resource protector, which allows no choice of algorithm."""

    class Validator(JWTBearerTokenValidator):
        def get_jwks(self):
            return jwks

    try:
        validator = Validator(ISSUER, AUDIENCE)
        validator.validate_token(validator.authenticate_token(token), ["read"], None)
        return True
    except InvalidTokenError:
        return False


def pyjwt_by_hand(token, jwks):
    """PyJWT told that Ed25519 is what it knows as EdDSA, and where the key is."""
    jws = jwt.PyJWS()
    jws.register_algorithm("Ed25519", OKPAlgorithm())
    kid = jwt.get_unverified_header(token)["kid"]
    (key,) = (jwt.PyJWK(key, algorithm="EdDSA") for key in jwks["keys"] if key["kid"] == kid)
    return json.loads(jws.decode(token, key.key, algorithms=["Ed25519"]))["sub"] == "alice"


old, name, _ = fresh()
check(name == "EdDSA", "the name is EdDSA to begin with")
made = order("", {"alg": "Ed25519"})["pending"]
jwks = requests.get(JWKS_URI, timeout=10).json()
check([k["alg"] for k in jwks["keys"] if k["kid"] == made] == ["Ed25519"], "a key that goes by Ed25519 stands by")
check(takers(old, jwks, ONE) == EVERYONE, "a key of the other name in the set disturbs none of the five")

order(f"/{made}/activate")
new, name, jwks = fresh()
check(name == "Ed25519", "after the rotation the name is Ed25519")
check(takers(old, jwks, ONE) == EVERYONE, "all five accept what was signed before")
check(takers(new, jwks, ONE) == set(), "told EdDSA alone, none accepts Ed25519")
check(takers(new, jwks, BOTH) == {"joserfc", "jose", "oauth4webapi"}, "told both names: joserfc, jose, oauth4webapi")
check(takers(old, jwks, BOTH) >= {"joserfc", "jose", "oauth4webapi"}, "they go on accepting the old name")
check(not protector_accepts(old, jwks) and not protector_accepts(new, jwks), "Authlib's protector takes neither name")
check(pyjwt_by_hand(new, jwks), "PyJWT can be taught the name, not its PyJWKClient")

order("/rollback")
back, name, jwks = fresh()
check(name == "EdDSA", "after a rollback the name is EdDSA")
check(takers(back, jwks, ONE) == EVERYONE, "all five accept it again")
check("joserfc" in takers(new, jwks, BOTH), "what was signed meanwhile is good for those who know the name")

"""Verifies each token on its standard input as it comes, with PyJWT and PyJWT's own client of the key set.

One line back for each: `ok`, or why not. The cache of the key set is as long as the environment says; all else about
it is as PyJWT has it.
"""

import os
import sys

import jwt

import verifiers
from server import AUDIENCE, ISSUER, JWKS_URI

client = jwt.PyJWKClient(JWKS_URI, lifespan=float(os.environ["RESCIND_CACHE_SECONDS"]))
verify = verifiers.pyjwt(client, ISSUER, AUDIENCE)
for line in sys.stdin:
    try:
        verify(line.strip())
        said = "ok"
    except verifiers.OWN_ERRORS as error:
        said = f"{type(error).__name__}: {error}"
    print(said, flush=True)

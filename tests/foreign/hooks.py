"""What schemathesis cannot guess: live session ids and tokens, so that each route is also seen to succeed."""

import base64
import functools
import json
import os
import pathlib
import random
import time

import requests
import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from schemathesis import GenerationMode

from server import AUDIENCE, CLIENT_ID, CLIENT_SECRET, ISSUER, claims, open_session

SEEN = pathlib.Path(os.environ["RESCIND_SEEN"])  # where openapi.py reads which routes answered with what
chance = random.Random(1)  # the same each time
seen = set()


@schemathesis.deserializer("application/json")
def json_or_jws(_context, response):
    """schemathesis counts application/jwt among the kinds of JSON, which a JWS is not: it is one string."""
    kinds = response.headers.get("content-type", [])
    return response.text if "application/jwt" in kinds else response.json()


def live_body(path, opened):
    """A body that should succeed, by route."""
    sid = opened["session_id"]
    return {
        "/oauth2/token": {"grant_type": "refresh_token", "refresh_token": opened["refresh_token"]},
        "/oauth2/revoke": {"token": opened["refresh_token"]},
        "/oauth2/introspect": {"token": opened["access_token"]},
        "/v1/sessions": {"subject": "fuzzed", "audience": [AUDIENCE], "scope": "read", "device": {"label": "a phone"}},
        "/v1/sessions/{session_id}": {"claims": {}, "acr": "urn:example:two", "scope": "read"},
        "/v1/sessions/{session_id}/revoke": {"others": chance.random() < 0.5, "dry_run": chance.random() < 0.5},
        "/v1/revocations": {"kind": "session", "id": sid, "reason": "a fuzzed one"},
        "/v1/keys/rotate": {"dangerous_without_waiting": True},
        "/v1/keys/import": {"key": json.dumps(private_jwk())},
        "/v1/keys/{kid}/activate": {"dangerous_without_waiting": True},
        "/v1/keys/{kid}/retire": {"dangerous_without_waiting": True},
        "/v1/keys/{kid}/destroy": {"dangerous_without_waiting": True},
        "/v1/keys/{kid}/compromise": {"reason": "a fuzzed one"},
        "/v1/keys/{kid}/dangerous-export": {"passphrase": "fuzzed"},
        "/v1/keys/secrets/{kind}/rotate": {},
        "/v1/keys/secrets/{kind}/compromise": {"reason": "a fuzzed one"},
        "/v1/keys/secrets/forget-unknown": {"reason": "a fuzzed one"},
    }.get(path)


def private_jwk():
    """A private key that nobody else has, as a JWK (RFC 8037)."""
    key = Ed25519PrivateKey.generate()
    text = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "d": text(key.private_bytes_raw()),
        "x": text(key.public_key().public_bytes_raw()),
    }


# Which keys a step can be taken with.
STATES = {"activate": "pending", "retire": "retiring", "destroy": "pending", "compromise": "pending"}


def key_for(path):
    """A key that is there and in the state that the route asks for; None if none is."""
    state = STATES.get(path.rsplit("/", 1)[-1], "active")
    with requests.Session() as session:
        session.auth = (CLIENT_ID, CLIENT_SECRET)
        keys = session.get(f"{ISSUER}/v1/keys", timeout=10).json()["keys"]
    return next((key["kid"] for key in keys if key["state"] == state), None)


NONCE = "AAAAAAAAAAAAAAAAAAAAAA"
PAGE = 1000  # positions of one page of the feed's history


@functools.cache
def whole_page():
    """The epoch of the feed, and a page of it that is whole: so many tokens are revoked, once."""
    with requests.Session() as session:
        session.auth = (CLIENT_ID, CLIENT_SECRET)
        for n in range(PAGE):
            stamp, rest = time.time_ns() // 1_000_000, f"{n:012x}"
            jti = f"{stamp:012x}"[:8] + "-" + f"{stamp:012x}"[8:] + "-7000-8000-" + rest
            session.post(f"{ISSUER}/v1/revocations", json={"kind": "token", "id": jti}, timeout=10).raise_for_status()
    tail = requests.get(f"{ISSUER}/v1/feed", params={"nonce": NONCE}, timeout=10).text
    tail = claims(tail)
    return tail["epoch"], tail["first_page"]


def unsigned(node):
    """`int64` from 0 up stands for 64 bits without a sign, for which OpenAPI has no name: all of them are taken."""
    if isinstance(node, dict):
        if node.get("format") == "int64" and node.get("minimum") == 0:
            del node["format"]
            node.setdefault("maximum", 2**64 - 1)
        node = list(node.values())
    for part in node if isinstance(node, list) else []:
        unsigned(part)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    unsigned(raw_schema)


SECRETS = "/v1/clients/{client_id}/secrets"
PUBLIC_CLIENT = "dev-public"  # what happens to this one disturbs nobody


def second_secret(wanted):
    """The client that asks has a second secret afterwards, or none. Its first one is what all calls go by."""
    with requests.Session() as session:
        session.auth = (CLIENT_ID, CLIENT_SECRET)
        at = f"{ISSUER}/v1/clients/{CLIENT_ID}"
        mine = session.get(at, timeout=10).json()["secrets"]
        made = [secret["secret_id"] for secret in mine if secret["origin"] == "rotated"]
        if wanted and not made:
            made = [session.post(f"{at}/secrets", json={}, timeout=10).json()["secret_id"]]
        if not wanted:
            for secret in made:
                session.delete(f"{at}/secrets/{secret}", timeout=10).raise_for_status()
        return made[0] if made else None


def aim_at_a_client(case):
    """Well-formed calls about clients are made about those that are there; none takes away what the others go by."""
    positive = case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE
    path, into = case.operation.path, case.path_parameters
    if not path.startswith(SECRETS):
        if positive and "client_id" in (into or {}) and chance.random() < 0.75:
            into["client_id"] = PUBLIC_CLIENT
    elif not positive or chance.random() < 0.25:
        if (into or {}).get("client_id") == CLIENT_ID:
            into["client_id"] = "nobody"
    elif case.method == case.operation.method.upper():
        into["client_id"] = CLIENT_ID
        secret = second_secret(path != SECRETS)
        if path == SECRETS:
            case.body = {}
        else:
            into["secret_id"] = secret


@schemathesis.hook
def before_call(context, case, kwargs):
    aim_at_a_client(case)
    """Of the well-formed calls, most are made about a session that is there, and every other one should succeed."""
    meta = case.meta
    if meta is None or meta.generation.mode != GenerationMode.POSITIVE:
        return
    if case.operation.path == "/v1/feed" and chance.random() < 0.5:
        case.query = {"nonce": NONCE}
    if case.operation.path == "/v1/feed/{epoch}/{page}" and chance.random() < 0.5:
        case.path_parameters = dict(zip(("epoch", "page"), whole_page()))
    path, opened = case.operation.path, open_session(subject="fuzzed")
    if chance.random() < 0.75 and "session_id" in (case.path_parameters or {}):
        case.path_parameters["session_id"] = opened["session_id"]
    if chance.random() < 0.75 and "kid" in (case.path_parameters or {}):
        case.path_parameters["kid"] = key_for(path) or case.path_parameters["kid"]
    if chance.random() < 0.75 and "kind" in (case.path_parameters or {}):
        case.path_parameters["kind"] = chance.choice(["feed", "derivation", "sealing"])
    body = live_body(path, opened)
    if chance.random() < 0.5 and body is not None and case.method == case.operation.method.upper():
        case.body = body


@schemathesis.hook
def after_call(context, case, response):
    seen.add((case.operation.label, response.status_code))
    SEEN.write_text(json.dumps(sorted(seen)))

"""Schemathesis against every route that the server describes: bounded in time, the same each time in short form."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import requests

from checks import check
from server import ISSUER

HERE = pathlib.Path(__file__).parent
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
# What must be described, so that nothing is tested by not being mentioned.
EXPECTED = {
    ("post", "/oauth2/token"),
    ("post", "/oauth2/revoke"),
    ("post", "/oauth2/introspect"),
    ("get", "/.well-known/oauth-authorization-server"),
    ("get", "/.well-known/jwks.json"),
    ("post", "/v1/sessions"),
    ("get", "/v1/sessions"),
    ("get", "/v1/sessions/{}"),
    ("patch", "/v1/sessions/{}"),
    ("delete", "/v1/sessions/{}"),
    ("post", "/v1/sessions/{}/revoke"),
    ("post", "/v1/revocations"),
    ("get", "/v1/revocations"),
    ("get", "/v1/keys"),
    ("post", "/v1/keys/rotate"),
    ("get", "/v1/keys/secrets"),
    ("post", "/v1/keys/secrets/{}/rotate"),
    ("post", "/v1/keys/secrets/{}/compromise"),
    ("post", "/v1/keys/secrets/forget-unknown"),
    ("get", "/v1/audit"),
    ("get", "/v1/audit/head"),
    ("get", "/v1/store"),
    ("get", "/v1/backup"),
    ("post", "/v1/store/restored"),
    ("get", "/v1/subjects/{}"),
    ("delete", "/v1/subjects/{}"),
    ("post", "/v1/webhook/test"),
    ("get", "/v1/clients"),
    ("get", "/v1/clients/{}"),
    ("post", "/v1/clients/{}/disable"),
    ("post", "/v1/clients/{}/enable"),
    ("post", "/v1/clients/{}/secrets"),
    ("delete", "/v1/clients/{}/secrets/{}"),
    ("get", "/v1/feed"),
    ("get", "/v1/feed/{}/{}"),
    ("get", "/v1/verifiers"),
}


def described(api):
    """Each route, with its parameters' names left out."""
    return {
        (method, "/".join("{}" if part.startswith("{") else part for part in path.split("/")))
        for path, item in api["paths"].items()
        for method in item
        if method in METHODS
    }


answer = requests.get(f"{ISSUER}/openapi.json", timeout=10)
check(answer.status_code == 200, "the description is served")
missing = EXPECTED - described(answer.json())
check(not missing, f"every route is described; missing: {sorted(missing)}")

long = "LONG_TESTS" in os.environ
bounds = ["--max-examples", "500"] if long else ["--max-examples", "20", "--seed", "1", "--generation-deterministic"]
run = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml", "run"]
with tempfile.TemporaryDirectory() as directory:
    seen = pathlib.Path(directory) / "seen.json"
    done = subprocess.run([*run, f"{ISSUER}/openapi.json", *bounds], env={**os.environ, "RESCIND_SEEN": str(seen)})
    statuses = {}
    for route, status in json.loads(seen.read_text()):
        statuses.setdefault(route, []).append(status)
for route, answers in sorted(statuses.items()):
    # Without a webhook, which `dev` has not, there is nothing to try. As many keys stand by as may, by then.
    refused = {"POST /v1/webhook/test": {409}, "POST /v1/keys/import": {200, 409}}
    good = refused.get(route, range(200, 300))
    check(any(status in good for status in answers), f"{route} answered {answers}")
check(len(statuses) >= len(EXPECTED), f"{len(statuses)} routes were called")
check(done.returncode == 0, "schemathesis found no failure")
check(requests.get(f"{ISSUER}/.well-known/jwks.json", timeout=10).status_code == 200, "and the server still serves")

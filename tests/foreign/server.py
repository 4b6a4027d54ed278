"""The server under test, as its environment tells of it. Nothing here prints a token."""

import base64
import json
import os
import sys
import time

import requests

from checks import check

ISSUER = os.environ["RESCIND_ISSUER"]
TOKEN_ENDPOINT = os.environ["RESCIND_TOKEN_ENDPOINT"]
JWKS_URI = os.environ["RESCIND_JWKS_URI"]
CLIENT_ID = os.environ["RESCIND_CLIENT_ID"]
CLIENT_SECRET = os.environ["RESCIND_CLIENT_SECRET"]
RETRY_WINDOW = float(os.environ["RESCIND_RETRY_WINDOW_SECONDS"])
AUDIENCE = "api"


def open_session(subject="alice", scope="read write"):
    """Opens a session as a login application would; the answer has the members of RFC 6749 section 5.1."""
    answer = requests.post(
        f"{ISSUER}/v1/sessions",
        auth=(CLIENT_ID, CLIENT_SECRET),
        json={"subject": subject, "audience": [AUDIENCE], "scope": scope},
        timeout=10,
    )
    if answer.status_code != 201:
        sys.exit(f"FAILED: a session is opened: {answer.status_code}")
    return answer.json()


def metadata():
    """RFC 8414."""
    answer = requests.get(f"{ISSUER}/.well-known/oauth-authorization-server", timeout=10)
    check(answer.status_code == 200, "metadata is served")
    return answer.json()


def claims(access_token):
    """The claims as written, unverified: to say what to compare with."""
    part = access_token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def refused_after_the_window(refresh, what):
    """Presents an old refresh token until the window is over; returns the error the library raised then.

    While the successor's window is open the answer is 503 and nothing changes, so the wait ends by itself.
    """
    deadline = time.monotonic() + RETRY_WINDOW + 10
    while True:
        try:
            refresh()
        except Exception as error:  # each library has exceptions of its own: the caller looks at them
            if getattr(error, "error", None) == "invalid_grant" or time.monotonic() > deadline:
                return error
        else:
            sys.exit(f"FAILED: {what}: the old token was exchanged")
        time.sleep(0.1)

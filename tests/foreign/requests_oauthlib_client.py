"""requests-oauthlib as an OAuth client: refresh, a lost answer, automatic refresh, revocation, and reuse."""

import os

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # the server under test listens on loopback, without TLS

import requests  # noqa: E402
from oauthlib.oauth2 import InvalidGrantError, OAuth2Error  # noqa: E402
from requests.auth import HTTPBasicAuth  # noqa: E402
from requests_oauthlib import OAuth2Session  # noqa: E402

from server import CLIENT_ID, CLIENT_SECRET, ISSUER, TOKEN_ENDPOINT, check, metadata, open_session  # noqa: E402
from server import refused_after_the_window  # noqa: E402

BASIC = {"auth": HTTPBasicAuth(CLIENT_ID, CLIENT_SECRET)}
POST = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


def refresh(token, how=BASIC):
    return OAuth2Session(CLIENT_ID, token=dict(token)).refresh_token(TOKEN_ENDPOINT, **how)


def refused(token, what, how=BASIC):
    try:
        refresh(token, how)
    except OAuth2Error as error:
        check(isinstance(error, InvalidGrantError), f"{what} is invalid_grant")
    else:
        check(False, f"{what} is refused")


def refreshes(how, name):
    opened = open_session()
    renewed = refresh(opened, how)
    check(renewed["refresh_token"] != opened["refresh_token"], f"{name}: refreshed, with a new refresh token")
    check(renewed["scope"] == ["read", "write"], f"{name}: the scope is the session's")
    check(0 < renewed["expires_in"] <= 3600, f"{name}: expires_in is a number of seconds")


def retries_a_lost_answer():
    opened = open_session()
    lost, found = refresh(opened), refresh(opened)
    check(found["refresh_token"] == lost["refresh_token"], "a lost answer: asked again, the same successor is given")
    check(refresh(found)["refresh_token"] != found["refresh_token"], "a lost answer: and the successor is good")


def refreshes_by_itself():
    opened = open_session()
    saved = []
    session = OAuth2Session(
        CLIENT_ID,
        token={**opened, "expires_at": 1, "expires_in": -1},  # long gone, as far as the library knows
        auto_refresh_url=TOKEN_ENDPOINT,
        auto_refresh_kwargs=POST,
        token_updater=saved.append,
    )
    answer = session.get(f"{ISSUER}/.well-known/oauth-authorization-server", timeout=10)
    check(answer.status_code == 200, "a request with an expired token went out")
    check(len(saved) == 1, "after exactly one automatic refresh")
    check(saved[0]["refresh_token"] != opened["refresh_token"], "which brought a new refresh token")


def revokes(how, name):
    opened = open_session()
    session = OAuth2Session(CLIENT_ID, token=dict(opened))
    # The library prepares the request of RFC 7009 but leaves sending it to its user.
    url, headers, body = session._client.prepare_token_revocation_request(
        metadata()["revocation_endpoint"], opened["refresh_token"], "refresh_token", **(how if "auth" not in how else {})
    )
    answer = requests.post(url, headers=headers, data=body, auth=how.get("auth"), timeout=10)
    check(answer.status_code == 200, f"{name}: revoked")
    refused(opened, f"{name}: a revoked token", how)
    answer = requests.post(url, headers=headers, data=body, auth=how.get("auth"), timeout=10)
    check(answer.status_code == 200, f"{name}: revoking twice is fine (RFC 7009 section 2.2)")


def reuse_is_invalid_grant():
    opened = open_session()
    newest = refresh(refresh(opened))
    error = refused_after_the_window(lambda: refresh(opened), "reuse")
    check(isinstance(error, InvalidGrantError), f"reuse surfaces as InvalidGrantError: {error!r}")
    refused(newest, "reuse closed the family: its newest token")


for how, name in ((BASIC, "client_secret_basic"), (POST, "client_secret_post")):
    refreshes(how, name)
    revokes(how, name)
retries_a_lost_answer()
refreshes_by_itself()
reuse_is_invalid_grant()

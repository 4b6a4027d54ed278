"""Authlib as an OAuth client: refresh, automatic refresh, introspection, revocation, and reuse."""

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from server import AUDIENCE, CLIENT_ID, CLIENT_SECRET, ISSUER, check, claims, metadata, open_session
from server import refused_after_the_window


def client(token, method="client_secret_basic", **options):
    return OAuth2Session(
        CLIENT_ID,
        CLIENT_SECRET,
        token=token,
        token_endpoint=endpoints["token_endpoint"],
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        **options,
    )


def active(session, token):
    answer = session.introspect_token(endpoints["introspection_endpoint"], token=token)
    check(answer.status_code == 200, "introspection answers 200")
    return answer.json()


def refreshes_and_revokes(method):
    opened = open_session()
    session = client(opened, method)
    renewed = session.refresh_token()
    check(renewed["refresh_token"] != opened["refresh_token"], f"{method}: refreshed, with a new refresh token")
    check(claims(renewed["access_token"])["sid"] == opened["session_id"], f"{method}: the same session")
    again = session.refresh_token()
    check(again["refresh_token"] != renewed["refresh_token"], f"{method}: refreshed again")

    answer = session.revoke_token(
        endpoints["revocation_endpoint"], token=again["refresh_token"], token_type_hint="refresh_token"
    )
    check(answer.status_code == 200, f"{method}: revoked")
    check(active(session, again["access_token"]) == {"active": False}, f"{method}: its access token ended with it")
    try:
        session.refresh_token()
        check(False, f"{method}: a revoked token is refused")
    except OAuthError as error:
        check(error.error == "invalid_grant", f"{method}: a revoked token is invalid_grant")


def refreshes_by_itself():
    opened = open_session()
    seen = []
    session = client(
        {**opened, "expires_at": 1},  # long gone, as far as the library knows
        update_token=lambda token, refresh_token=None, access_token=None: seen.append(token),
    )
    answer = session.get(f"{ISSUER}/.well-known/oauth-authorization-server", timeout=10)
    check(answer.status_code == 200, "a request with an expired token went out")
    check(len(seen) == 1, "after exactly one automatic refresh")
    check(seen[0]["refresh_token"] != opened["refresh_token"], "which brought a new refresh token")
    check(not session.token.is_expired(), "whose expiry the library understood")


def introspects():
    opened = open_session(subject="bob", scope="read")
    session = client(opened)
    told = active(session, opened["access_token"])
    said = claims(opened["access_token"])
    check(told["active"] is True, "introspection: a live token is active")
    for name in ("iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"):
        check(told.get(name) == said[name], f"introspection: {name} is the token's own")
    check(said["aud"] in (AUDIENCE, [AUDIENCE]), "introspection: the audience that was asked for")
    answer = session.revoke_token(
        endpoints["revocation_endpoint"], token=opened["access_token"], token_type_hint="access_token"
    )
    check(answer.status_code == 200, "an access token is revoked")
    check(active(session, opened["access_token"]) == {"active": False}, "and inactive, with nothing else said")
    check(active(session, "no.such.token") == {"active": False}, "as is what was never a token")
    check(session.refresh_token()["access_token"] != "", "while its session goes on")


def reuse_is_invalid_grant():
    opened = open_session()
    session = client(opened)
    session.refresh_token()
    newest = session.refresh_token()
    error = refused_after_the_window(
        lambda: client(opened).refresh_token(refresh_token=opened["refresh_token"]), "reuse"
    )
    check(isinstance(error, OAuthError) and error.error == "invalid_grant", f"reuse surfaces as invalid_grant: {error!r}")
    check(active(session, newest["access_token"]) == {"active": False}, "reuse ended the live access token")
    try:
        session.refresh_token()
        check(False, "reuse closed the family")
    except OAuthError as refused:
        check(refused.error == "invalid_grant", "reuse closed the family: its newest token is invalid_grant")


def fetches_for_itself():
    session = client(None)
    token = session.fetch_token(grant_type="client_credentials", scope="read")
    check(claims(token["access_token"])["sub"] == CLIENT_ID, "client_credentials: the client is the subject")
    check("refresh_token" not in token, "client_credentials: no refresh token (RFC 6749 section 4.4.3)")


endpoints = metadata()
for method in ("client_secret_basic", "client_secret_post"):
    refreshes_and_revokes(method)
refreshes_by_itself()
introspects()
reuse_is_invalid_grant()
fetches_for_itself()

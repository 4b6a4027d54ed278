"""docs/migrate.md, from flask-jwt-extended, from another OAuth server, and from opaque sessions."""

import os
import secrets

from guide import Sidecar, unpack
from server import CLIENT_ID, CLIENT_SECRET, ISSUER, check, open_session

unpack()
with Sidecar(ISSUER) as sidecar:
    sidecar.ready(open_session()["access_token"])
    os.environ.update(
        ISSUER=ISSUER,
        SIDECAR=sidecar.url,
        CLIENT_ID=CLIENT_ID,
        CLIENT_SECRET=CLIENT_SECRET,
        OLD_SECRET=secrets.token_hex(32),
    )
    import cutover_flask
    import jwt
    from flask_jwt_extended import create_access_token, create_refresh_token

    app, http = cutover_flask.app, cutover_flask.app.test_client()
    with app.app_context():
        old_access, old_refresh = create_access_token("alice"), create_refresh_token("alice")

    def bearer(token):
        return {"Authorization": f"Bearer {token}"}

    def orders(token):
        return http.get("/orders", headers=bearer(token))

    check(orders(old_access).json == {"subject": "alice"}, "an old access token goes on")
    good, cutover_flask.CLIENT = cutover_flask.CLIENT, (CLIENT_ID, "wrong")
    check(http.post("/refresh", headers=bearer(old_refresh)).status_code == 503, "no session can be opened: 503")
    cutover_flask.CLIENT = good
    changed = http.post("/refresh", headers=bearer(old_refresh))
    check(changed.status_code == 200, "and the old token was not spent for it: it changes over")
    check(http.post("/refresh", headers=bearer(old_refresh)).status_code == 401, "and is spent")
    check(orders(changed.json["access_token"]).json == {"subject": "alice"}, "the new access token is hers")
    check(http.post("/refresh", headers=bearer(old_access)).status_code != 200, "an access token is not exchanged")
    stranger = jwt.encode({"sub": "alice", "jti": "x", "type": "access"}, secrets.token_hex(32), algorithm="HS256")
    check(orders(stranger).status_code == 422, "a forged old token is refused")
    other = open_session(subject="bob")["access_token"]
    check(orders(other).json == {"subject": "bob"}, "as is any other of ours accepted")

    # RFC 7662 and RFC 7009 are what the exchange asks of an old server; here that is a server of the same RFCs.
    import cutover_oauth

    old = open_session(subject="carol")
    asked = (f"{ISSUER}/oauth2/introspect", f"{ISSUER}/oauth2/revoke", (CLIENT_ID, CLIENT_SECRET))
    new = cutover_oauth.exchange(old["refresh_token"], *asked, ISSUER, (CLIENT_ID, CLIENT_SECRET))
    check(new["refresh_token"] != old["refresh_token"], "an OAuth server's refresh token changes over")
    none = cutover_oauth.exchange(old["refresh_token"], *asked, ISSUER, (CLIENT_ID, CLIENT_SECRET))
    check(none is None, "once: it was revoked there")

    import cutover_cookie

    row = {"user": "dave"}
    first = dict(cutover_cookie.changed_over(row, ISSUER, (CLIENT_ID, CLIENT_SECRET)))
    check(first["refresh_token"].startswith("rescind_rt_"), "an opaque session gets tokens")
    check(cutover_cookie.changed_over(row, ISSUER, (CLIENT_ID, CLIENT_SECRET)) == first, "once")
    check(orders(first["access_token"]).json == {"subject": "dave"}, "which are the same person's")

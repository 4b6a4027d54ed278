"""docs/migrate.md, from simplejwt: tokens that simplejwt minted go on, change over once, and end."""

import secrets
import sys
import time
import types

from guide import Sidecar, unpack
from server import CLIENT_ID, CLIENT_SECRET, ISSUER, check, open_session

unpack()
import requests  # noqa: E402
from django.conf import settings  # noqa: E402

with Sidecar(ISSUER) as sidecar:
    sidecar.ready(open_session()["access_token"])
    import settings_added

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rest_framework",
            "rest_framework_simplejwt.token_blacklist",
        ],
        SECRET_KEY=secrets.token_hex(),
        SIMPLE_JWT={"ALGORITHM": "HS256"},
        ROOT_URLCONF="urls_of_this_test",
        ALLOWED_HOSTS=["testserver"],
        ISSUER=ISSUER,
        SIDECAR=sidecar.url,
        RESCIND_CLIENT=(CLIENT_ID, CLIENT_SECRET),
        REST_FRAMEWORK=settings_added.REST_FRAMEWORK,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.urls import path
    from rest_framework.permissions import IsAuthenticated
    from rest_framework.response import Response
    from rest_framework.test import APIClient
    from rest_framework.views import APIView
    from rest_framework_simplejwt.tokens import RefreshToken

    from exchange import Exchange

    class Orders(APIView):
        permission_classes = [IsAuthenticated]

        def get(self, request):
            return Response({"user": request.user.id})

    urls = types.ModuleType("urls_of_this_test")
    urls.urlpatterns = [path("orders", Orders.as_view()), path("refresh", Exchange.as_view())]
    sys.modules["urls_of_this_test"] = urls
    call_command("migrate", verbosity=0)
    user = User.objects.create_user("alice")
    old = RefreshToken.for_user(user)

    def orders(token):
        return APIClient(HTTP_AUTHORIZATION=f"Bearer {token}").get("/orders")

    def refresh(token):
        return APIClient(raise_request_exception=False).post("/refresh", {"refresh": token}, format="json")

    check(orders(old.access_token).data == {"user": user.id}, "an old access token goes on")

    good, settings.RESCIND_CLIENT = settings.RESCIND_CLIENT, (CLIENT_ID, "wrong")
    check(refresh(str(old)).status_code == 503, "no session can be opened: 503")
    settings.RESCIND_CLIENT = good
    changed = refresh(str(old))
    check(changed.status_code == 200, "and the old token was not spent for it: it changes over")
    check(changed.data["refresh"].startswith("rescind_rt_"), "to one of ours")
    check(refresh(str(old)).status_code == 401, "and is spent")
    check(orders(changed.data["access"]).data == {"user": user.id}, "the new access token is the same user's")
    check(orders(old.access_token).status_code == 200, "the old access token lives until its exp")

    again = refresh(changed.data["refresh"])
    check(again.status_code == 200, "ours is renewed at the same path")
    check(refresh("rescind_rt_nonsense").status_code == 401, "a forged one is refused")
    check(refresh("nonsense").status_code == 401, "and what is neither")
    header, claims, _ = changed.data["access"].split(".")
    check(orders(f"{header}.{claims}.{'A' * 86}").status_code == 401, "a forged access token is refused")

    answer = requests.post(
        f"{ISSUER}/v1/revocations",
        auth=(CLIENT_ID, CLIENT_SECRET),
        json={"kind": "subject", "id": str(user.id)},
        timeout=10,
    )
    check(answer.status_code == 201, "the user is cut off")
    for _ in range(100):
        if orders(again.data["access"]).status_code == 401:
            break
        time.sleep(0.05)
    check(orders(again.data["access"]).status_code == 401, "and refused at once")
    check(refresh(again.data["refresh"]).status_code == 401, "and not renewed")

"""One view, as any other of REST framework: nothing in it knows where tokens come from."""

from django.urls import path
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import BasePermission
from rest_framework.response import Response


class ReadsOrders(BasePermission):
    def has_permission(self, request, view):
        return bool(request.auth) and "orders:read" in request.auth.get("scope", "").split()


@api_view(["GET"])
@permission_classes([ReadsOrders])
def orders(request):
    return Response({"subject": request.user.id})


urlpatterns = [path("orders", orders)]

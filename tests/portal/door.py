"""Come in by the door: the page that asks for name and password."""

from __future__ import annotations

from typing import Any

from django.test import Client

from portal.models import User

PASSWORD = "Huang-long-dong-26"
LOGIN, CODE, ENROL = "/admin/login/", "/admin/login/code/", "/admin/second-factor/"
OWN_PASSWORD = "/admin/password_change/"
ADDRESS = "127.0.0.1"


def with_password(user: User) -> User:
    """Give somebody the password of the tests."""
    user.set_password(PASSWORD)
    user.save()
    return user


def enter(client: Client, name: str, password: str = PASSWORD, **extra: Any) -> Any:
    """Type name and password."""
    return client.post(LOGIN, {"username": name, "password": password}, **extra)

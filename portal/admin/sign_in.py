"""The pages of signing in: name and password, code, initial password, enrolment; and of leaving."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import segno
from django import forms
from django.contrib import auth, messages
from django.contrib.admin import site
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from portal.adminkit import VerbForm
from portal.core.errors import PortalError
from portal.middleware import address_of
from portal.models import User
from portal.services import passwords, second_factor, sign_in
from portal.services.attempts import SignInLockedError
from portal.services.sign_in import Step
from portal.session_store import digest_of
from portal.sign_in_gate import VERIFIED, pending_of, step_of
from portal.texts import told

PAGES = {Step.CODE: "sign-in-code", Step.PASSWORD: "admin:password_change", Step.ENROL: "second-factor-enrol"}
NEXT, COMPLETE, ENROLLING = "next", "sign_in_complete", "enrolling"
View = Callable[..., HttpResponse]


class SignInForm(VerbForm):
    """Name and password."""

    username = forms.CharField(
        label=gettext_lazy("用户名"),
        max_length=150,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "autofocus": True}
        ),
    )
    password = forms.CharField(
        label=gettext_lazy("密码"),
        strip=False,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class CodeForm(VerbForm):
    """A code of the authenticator, or a recovery code."""

    code = forms.CharField(
        label=gettext_lazy("动态口令"),
        max_length=32,
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}
        ),
    )


class OwnPasswordForm(VerbForm):
    """The present password and the new one, typed twice."""

    current = forms.CharField(
        label=gettext_lazy("当前密码"),
        strip=False,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )
    password = forms.CharField(
        label=gettext_lazy("新密码"),
        strip=False,
        max_length=1000,
        widget=forms.PasswordInput,
        help_text=gettext_lazy("至少 10 个字符，不能全为数字，不能与姓名相近，不能与最近用过的相同"),
    )
    again = forms.CharField(
        label=gettext_lazy("再次输入"), strip=False, max_length=1000, widget=forms.PasswordInput
    )

    def clean(self) -> dict[str, Any]:
        """Refuse two different passwords."""
        cleaned = super().clean() or {}
        if cleaned.get("password") != cleaned.get("again"):
            self.add_error("again", _("两次输入的密码不一致"))
        return cleaned


def step_page(step: Step, *, also_signed_in: bool = False) -> Callable[[View], View]:
    """Open a page to whom this step is due, and where asked to who is signed in; send others elsewhere.

    The view gets the person whose account it is about.
    """

    def decorate(view: View) -> View:
        @sensitive_post_parameters()
        @never_cache
        @wraps(view)
        def guarded(request: HttpRequest) -> HttpResponse:
            pending = pending_of(request)
            if pending is not None and pending.step == step:
                return view(request, pending.user)
            if pending is None and also_signed_in and isinstance(request.user, User):
                return view(request, request.user)
            if pending is not None:
                return redirect(PAGES[pending.step])
            return redirect("admin:index")

        return guarded

    return decorate


@sensitive_post_parameters()
@never_cache
def sign_in_page(request: HttpRequest) -> HttpResponse:
    """Ask for name and password."""
    pending = pending_of(request)
    if pending is not None:
        request.session[NEXT] = _wanted(request) or request.session.get(NEXT)
        return redirect(PAGES[pending.step])
    if isinstance(request.user, User) and request.method == "GET":
        return redirect("admin:index")
    form = SignInForm(request.POST if request.method == "POST" else None, request=request)
    error, status = "", 200
    if form.is_valid():
        name, password = form.cleaned_data["username"], form.cleaned_data["password"]
        try:
            user = sign_in.check_password(name, password, address=address_of(request))
        except PortalError as exc:
            error, status = told(exc.message), _status(exc)
        else:
            return _enter(request, user)
    context = {"form": form, "error": error, "next": _wanted(request), "button": _("登录")}
    return _page(request, "admin/login.html", _("登录"), context, status)


def _enter(request: HttpRequest, user: User) -> HttpResponse:
    """Begin a session of the person; nothing of the session before it stays."""
    wanted = _wanted(request)
    request.session.flush()
    auth.login(request, user)
    request.session[NEXT] = wanted
    return onward(request, user)


def onward(request: HttpRequest, user: User) -> HttpResponse:
    """Go to the next step, or in when none is left."""
    step = step_of(user, request.session)
    return redirect(PAGES[step]) if step else redirect(_complete(request, user))


def _complete(request: HttpRequest, user: User) -> str:
    """Note a sign-in whose last step was just done; return where the person wanted to go."""
    if not request.session.get(COMPLETE):
        sign_in.signed_in(user)
        request.session[COMPLETE] = True
    return str(request.session.pop(NEXT, None) or reverse("admin:index"))


@step_page(Step.CODE)
def code_page(request: HttpRequest, user: User) -> HttpResponse:
    """Ask for the code of the second factor."""
    form = CodeForm(request.POST if request.method == "POST" else None, request=request)
    error = ""
    if form.is_valid():
        try:
            verified = sign_in.check_code(user, form.cleaned_data["code"], address=address_of(request))
        except SignInLockedError as exc:
            auth.logout(request)
            messages.error(request, told(exc.message))
            return redirect("admin:login")
        except PortalError as exc:
            error = told(exc.message)
        else:
            request.session[VERIFIED] = verified
            request.session.cycle_key()
            return onward(request, user)
    context = {
        "form": form,
        "error": error,
        "lead": _("请输入手机验证器上的 6 位动态口令。手机不在身边时，可输入一个恢复码。"),
        "button": _("验证"),
    }
    return _page(request, "admin/sign_in/step.html", _("两步验证"), context, 422 if error else 200)


@step_page(Step.ENROL, also_signed_in=True)
def enrol_page(request: HttpRequest, user: User) -> HttpResponse:
    """Show the secret of a new second factor and take its first code."""
    if second_factor.factor_of(user) is not None:
        return redirect("account")
    shown = second_factor.pending_enrolment(user, request.session.get(ENROLLING, 0))
    if shown is None:
        shown = second_factor.begin_enrolment(user)
        request.session[ENROLLING] = shown.factor
    form = CodeForm(request.POST if request.method == "POST" else None, request=request)
    error = ""
    if form.is_valid():
        try:
            codes = second_factor.confirm_enrolment(user, form.cleaned_data["code"], factor=shown.factor)
        except PortalError as exc:
            error = told(exc.message)
        else:
            request.session[VERIFIED] = request.session.pop(ENROLLING)
            request.session.cycle_key()
            return codes_page(request, codes, _complete(request, user))
    context = {
        "form": form,
        "error": error,
        "picture": _picture(shown.address),
        "secret": shown.secret,
        "signed_in": pending_of(request) is None,
        "button": _("确认绑定"),
    }
    return _page(request, "admin/sign_in/enrol.html", _("绑定两步验证"), context, 422 if error else 200)


def codes_page(request: HttpRequest, codes: list[str], back: str) -> HttpResponse:
    """Show recovery codes, this once."""
    context = {"codes": codes, "back": back}
    return _page(request, "admin/sign_in/codes.html", _("恢复码"), context)


@step_page(Step.PASSWORD, also_signed_in=True)
def password_page(request: HttpRequest, user: User) -> HttpResponse:
    """Change one's own password, because it is due or because one wants to."""
    pending = pending_of(request)
    form = OwnPasswordForm(request.POST if request.method == "POST" else None, request=request)
    error, status = "", 200
    if form.is_valid():
        try:
            changed = passwords.change_own_password(
                user,
                current=form.cleaned_data["current"],
                password=form.cleaned_data["password"],
                address=address_of(request),
                session=digest_of(request.session.session_key or ""),
            )
        except PortalError as exc:
            error, status = told(exc.message), _status(exc)
        else:
            request.user = changed
            auth.update_session_auth_hash(request, changed)
            messages.success(request, _("密码已修改，其他登录已失效"))
            return onward(request, changed) if pending else redirect("account")
    context = {
        "form": form,
        "error": error,
        "lead": _("密码是初始密码或已到期，修改后才能继续。") if pending else "",
        "signed_in": pending is None,
        "button": _("修改密码"),
    }
    return _page(request, "admin/sign_in/step.html", _("修改密码"), context, status)


@require_POST
@never_cache
def sign_out(request: HttpRequest) -> HttpResponse:
    """Leave, whatever step the sign-in is at."""
    if isinstance(request.user, User):
        sign_in.signed_out(request.user)
    auth.logout(request)
    messages.success(request, _("您已退出登录"))
    return redirect("admin:login")


def _page(
    request: HttpRequest, template: str, title: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    pending = pending_of(request)
    shared = {**site.each_context(request), "title": title, "leaving": pending.user if pending else None}
    return TemplateResponse(request, template, shared | context, status=status)


def _status(exc: PortalError) -> int:
    return 429 if isinstance(exc, SignInLockedError) else 422


def _wanted(request: HttpRequest) -> str:
    """Return the page the person was on the way to, if it is one of ours."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if safe else ""


def _picture(address: str) -> SafeString:
    """Draw a QR picture as SVG within the page: the secret is in no address and in no file."""
    drawn = segno.make(address, error="m", micro=False)
    return mark_safe(drawn.svg_inline(scale=5, border=3, light="#ffffff", omitsize=True))  # noqa: S308

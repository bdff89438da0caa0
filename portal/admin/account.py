"""One's own account: roles, second factor, password, and where one is signed in."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.admin import site
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from portal.admin import sign_in as pages
from portal.adminkit import signed_in
from portal.choices import Role
from portal.core.errors import PortalError
from portal.middleware import address_of
from portal.models import UserSession
from portal.services import second_factor, sign_in
from portal.services.sessions import end_all_sessions, end_session
from portal.session_store import digest_of
from portal.texts import listed, told


def account_links(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the entries of the menu behind one's own name."""
    return [
        {"title": gettext_lazy("我的账户"), "link": reverse("account")},
        {"title": gettext_lazy("修改密码"), "link": reverse("admin:password_change")},
    ]


@never_cache
def account_page(request: HttpRequest) -> HttpResponse:
    """Show one's own account."""
    user = signed_in(request)
    factor = second_factor.factor_of(user)
    context = {
        **site.each_context(request),
        "title": _("我的账户"),
        "account": user,
        "role_names": listed(Role(role).label for role in user.roles) or "-",
        "factor": factor,
        "factor_required": second_factor.is_required(user),
        "codes_left": second_factor.codes_left(factor) if factor else 0,
        "sessions": user.sessions.order_by("-seen_at"),
        "present": _present(request),
    }
    return TemplateResponse(request, "admin/portal/account.html", context)


@require_POST
def end_own_session(request: HttpRequest, key: str) -> HttpResponse:
    """End one of one's own sessions; this one by leaving."""
    user = signed_in(request)
    session = UserSession.objects.filter(pk=key, user=user).first()
    if session is None:
        raise Http404
    if session.pk == _present(request):
        return pages.sign_out(request)
    end_session(session, actor=user)
    messages.success(request, _("该登录已结束"))
    return redirect("account")


@require_POST
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    """End all of one's own sessions but this one."""
    user = signed_in(request)
    count = end_all_sessions(user, actor=user, keep=_present(request))
    messages.success(request, _("已结束其他登录 %(count)s 个") % {"count": count})
    return redirect("account")


@never_cache
def renew_codes_page(request: HttpRequest) -> HttpResponse:
    """Replace one's recovery codes, against a code of the second factor."""
    user = signed_in(request)
    if second_factor.factor_of(user) is None:
        return redirect("account")
    form = pages.CodeForm(request.POST if request.method == "POST" else None, request=request)
    error = ""
    if form.is_valid():
        try:
            sign_in.check_code(user, form.cleaned_data["code"], address=address_of(request))
            return pages.codes_page(request, second_factor.renew_codes(user), reverse("account"))
        except PortalError as exc:
            error = told(exc.message)
    context = {
        **site.each_context(request),
        "title": _("重新生成恢复码"),
        "form": form,
        "error": error,
        "lead": _("输入动态口令后生成 10 个新的恢复码，旧的全部作废。"),
        "signed_in": True,
        "button": _("重新生成"),
    }
    return TemplateResponse(request, "admin/sign_in/step.html", context, status=422 if error else 200)


def _present(request: HttpRequest) -> str:
    return digest_of(cast("str", request.session.session_key))


# They stand before the admin's own addresses, whose pages for signing in, out and for passwords they replace.
urlpatterns = [
    path("login/", pages.sign_in_page),
    path("logout/", pages.sign_out),
    path("password_change/", pages.password_page),
    path("login/code/", pages.code_page, name="sign-in-code"),
    path("second-factor/", pages.enrol_page, name="second-factor-enrol"),
    path("second-factor/codes/", site.admin_view(renew_codes_page), name="second-factor-codes"),
    path("account/", site.admin_view(account_page), name="account"),
    path("account/sessions/end/", site.admin_view(end_other_sessions), name="account-end-others"),
    path("account/sessions/<str:key>/end/", site.admin_view(end_own_session), name="account-end-session"),
]

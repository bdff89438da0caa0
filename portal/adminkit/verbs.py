"""Verbs: buttons of the admin that ask what they need, call one service and say what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import models
from django.forms.utils import ErrorList
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDateWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from portal.core.errors import PermissionRefusedError, PortalError
from portal.limits import spend
from portal.texts import described, told

if TYPE_CHECKING:
    from portal.adminkit.base import ScopedAdmin

WIDGETS: dict[type[forms.Field], type[forms.Widget]] = {
    forms.ModelMultipleChoiceField: UnfoldAdminSelectMultipleWidget,
    forms.MultipleChoiceField: UnfoldAdminCheckboxSelectMultipleWidget,
    forms.ModelChoiceField: UnfoldAdminSelectWidget,
    forms.ChoiceField: UnfoldAdminSelectWidget,
    forms.FileField: UnfoldAdminFileFieldWidget,
    forms.DateField: UnfoldAdminDateWidget,
    forms.BooleanField: UnfoldBooleanSwitchWidget,
    forms.DecimalField: UnfoldAdminDecimalFieldWidget,
    forms.IntegerField: UnfoldAdminIntegerFieldWidget,
    forms.CharField: UnfoldAdminTextInputWidget,
}


class VerbForm(forms.Form):
    """A form of a verb in the admin's look; knows who asks and about which row."""

    def __init__(
        self, *args: Any, request: HttpRequest, row: models.Model | None = None, **kwargs: Any
    ) -> None:
        self.request = request
        self.row = row
        super().__init__(*args, **kwargs)
        self.prepare()
        for field in self.fields.values():
            _dress(field)

    def prepare(self) -> None:
        """Set querysets and initial values that depend on the row or the user."""

    @classmethod
    def upload_limit(cls) -> int:
        """Return how many bytes the form's files may have; a form that takes files says how many."""
        return 0

    def preface(self) -> Any:
        """Return safe HTML to stand above the fields, such as what is wrong with the row."""
        return ""

    def bounded_file(self, name: str) -> Any:
        """Return an uploaded file; refuse an empty one and one of more than `upload_limit` bytes."""
        upload, limit = self.cleaned_data[name], self.upload_limit()
        if upload is not None and upload.size > limit:
            raise forms.ValidationError(
                _("文件过大：上限 %(limit)s，实为 %(size)s")
                % {"limit": filesizeformat(limit), "size": filesizeformat(upload.size)},
                code="file_too_large",
            )
        return upload


def _dress(field: forms.Field) -> None:
    """Put unfold's widget in the place of Django's, keeping attributes and choices."""
    if isinstance(field.widget, forms.HiddenInput):
        return
    dressed = _widget(field)
    if isinstance(field, forms.ChoiceField):
        dressed.choices = field.widget.choices  # type: ignore[attr-defined]
    dressed.attrs.update({name: value for name, value in field.widget.attrs.items() if name != "class"})
    dressed.is_required = field.required
    field.widget = dressed


def _widget(field: forms.Field) -> forms.Widget:
    if isinstance(field.widget, forms.Textarea):
        return UnfoldAdminTextareaWidget()
    if isinstance(field.widget, forms.CheckboxSelectMultiple):
        return UnfoldAdminCheckboxSelectMultipleWidget()
    if isinstance(field.widget, forms.PasswordInput):
        return UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
    if isinstance(field.widget, forms.DateTimeInput):
        field.input_formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]  # type: ignore[attr-defined]
        return UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"})
    return next((made() for kind, made in WIDGETS.items() if isinstance(field, kind)), field.widget)


Perform = Callable[["ScopedAdmin[Any]", HttpRequest, Any, dict[str, Any]], "HttpResponseBase | str | None"]


def in_status(*states: str) -> Callable[[Any], bool]:
    """Offer a verb for rows in these states only."""
    return lambda row: row.status in states


def verb(
    *,
    label: Any,
    permission: str,
    form: type[VerbForm] = VerbForm,
    when: Callable[[Any], bool] = bool,
    icon: str = "",
    variant: ActionVariant = ActionVariant.DEFAULT,
    download: bool = False,
    second_after: str = "",
    limit: str = "",
    help_text: Any = "",
) -> Callable[[Perform], Any]:
    """Make a method `(admin, request, row, cleaned)` a button of the admin.

    A GET asks (the form, or a plain confirmation), a POST performs; `download=True` performs on GET and gives
    a file. The method returns a message, a response or None. PortalError is shown, nothing else is caught.

    Args:
        permission: needed to see and to use the button; the service checks it again.
        second_after: the row's field with the first of two people, who is not offered the button.
        limit: counts the verb against a limit of settings.RATES; downloads have theirs by themselves.
        when: whether the row's state offers the verb; the service refuses a late click all the same.

    """
    facts = {"short_description": label, "allowed_permissions": [permission], "form_class": form}
    facts |= {"icon": icon, "variant": variant, "when": when, "help_text": help_text}
    facts |= {"second_after": second_after, "limit": limit}

    def decorate(perform: Perform) -> Any:
        def view(
            self: ScopedAdmin[Any], request: HttpRequest, object_id: str | None = None
        ) -> HttpResponseBase:
            if not request.user.has_perm(permission):
                raise PermissionDenied from PermissionRefusedError("", expected=permission)
            row = self.get_object(request, object_id) if object_id is not None else None
            if object_id is not None and row is None:
                raise Http404
            if download:
                spend(limit or "download", request)
                return _perform(self, request, row, perform, {}) or _back(self, row)
            return _ask_and_perform(self, request, row, view, perform)

        return _named_after(perform, view, facts)

    return decorate


def _named_after(perform: Perform, view: Any, facts: dict[str, Any]) -> Any:
    """Give a view the name of its verb and what unfold and the scoped admin read from it."""
    view.__name__ = view.original_function_name = perform.__name__
    view.url_path, view.attrs = perform.__name__.replace("_", "-"), {}
    for name, value in facts.items():
        setattr(view, name, value)
    return view


def _ask_and_perform(
    admin: ScopedAdmin[Any], request: HttpRequest, row: Any, view: Any, perform: Perform
) -> HttpResponseBase:
    posted = request.method == "POST"
    form = view.form_class(
        request.POST if posted else None,
        request.FILES if posted else None,
        request=request,
        row=row,
        error_class=ErrorList,
    )
    status = 200
    if posted and form.is_valid():
        if view.limit:
            spend(view.limit, request)
        response = _perform(admin, request, row, perform, form.cleaned_data)
        if response is not None:
            return response
        status = 409
    elif posted:
        status = 422
    context = {
        **admin.admin_site.each_context(request),
        "title": view.short_description,
        "subtitle": str(row) if row is not None else None,
        "opts": admin.model._meta,
        "original": row,
        "form": form,
        "media": admin.media + form.media,
        "help_text": view.help_text,
        "preface": form.preface(),
        "danger": view.variant == ActionVariant.DANGER,
        "back": _address(admin, row),
    }
    return TemplateResponse(request, "admin/portal/verb.html", context, status=status)


def _perform(
    admin: ScopedAdmin[Any], request: HttpRequest, row: Any, perform: Perform, cleaned: dict[str, Any]
) -> HttpResponseBase | None:
    """Call the verb; None means it was refused and the message says why."""
    try:
        result = perform(admin, request, row, cleaned)
    except PermissionRefusedError as exc:
        raise PermissionDenied(told(exc.message)) from exc
    except PortalError as exc:
        messages.error(request, described(exc))
        return None
    if isinstance(result, HttpResponseBase):
        return result
    messages.success(request, result or _("已完成"))
    return _back(admin, row)


def result_page(
    admin: ScopedAdmin[Any], request: HttpRequest, row: Any, *, title: Any, body: Any, help_text: Any = ""
) -> HttpResponse:
    """Answer a verb with a page of its own that no cache keeps: values shown once, results of a search."""
    context = {
        **admin.admin_site.each_context(request),
        "title": title,
        "opts": admin.model._meta,
        "original": row,
        "body": body,
        "help_text": help_text,
        "back": _address(admin, row),
    }
    response = TemplateResponse(request, "admin/portal/result.html", context)
    response["Cache-Control"] = "no-store, private"
    return response


def _address(admin: ScopedAdmin[Any], row: Any) -> str:
    options = admin.model._meta
    if row is None or not admin.model._default_manager.filter(pk=row.pk).exists():
        return reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    return reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[row.pk])


def _back(admin: ScopedAdmin[Any], row: Any) -> HttpResponse:
    return redirect(_address(admin, row))

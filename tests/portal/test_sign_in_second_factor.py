"""The second step of signing in: enrolment, codes, recovery codes, reset (issue 3, People; R-45, R-46)."""

from __future__ import annotations

import re
from typing import Any
from unittest import mock

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from portal.choices import Role
from portal.files import keystore
from portal.models import AuditEntry, Organisation, RecoveryCode, SecondFactor, User
from portal.roles import PERMISSIONS, PRIVILEGED, PRIVILEGED_ROLES
from portal.services import second_factor
from portal.services.second_factor import CodeRefusedError, SecondFactorError
from tests.api import actions
from tests.portal.desk import make_person, page, said, text
from tests.portal.door import CODE, ENROL, LOGIN, enter
from tests.refusals import refused
from tests.second_factor import Authenticator, enrolled, verified_client

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.second_factor,
    pytest.mark.usefixtures("cheap_hashes"),
]


class TestSecondStep:
    def test_a_privileged_role_without_a_second_factor_gets_to_the_enrolment_and_nowhere_else(
        self, client: Client, approver: User
    ) -> None:
        assert enter(client, "approver")["Location"] == ENROL
        for path in ("/admin/", "/admin/account/", "/admin/orders/order/", page("portal.user", "changelist")):
            answer = client.get(path)
            assert (answer.status_code, answer["Location"]) == (302, f"{LOGIN}?next={path}")
        assert client.get(LOGIN)["Location"] == ENROL
        assert client.get(CODE)["Location"] == ENROL
        assert client.get("/admin/password_change/")["Location"] == ENROL
        assert client.get("/api/v1/orders").status_code == 401
        assert actions() == [], "nobody has signed in yet"

    def test_enrolment_by_code_and_recovery_codes_shown_once(self, client: Client, approver: User) -> None:
        enter(client, "approver")
        shown = text(client.get(ENROL))
        assert "<svg" in shown
        telephone = Authenticator.reading(_secret(shown))
        assert _secret(text(client.get(ENROL))) == _secret(shown), "the same until it is confirmed"
        answer = client.post(ENROL, {"code": "000000"})
        assert (answer.status_code, "动态口令不正确" in text(answer)) == (422, True)
        answer = client.post(ENROL, {"code": telephone.code()})
        codes = re.findall(r"<li class=\"pk-secret\">([0-9A-Z]{5}-[0-9A-Z]{5})</li>", text(answer))
        assert len(set(codes)) == 10
        assert "no-store" in answer["Cache-Control"]
        assert client.get("/admin/").status_code == 200
        assert client.get(ENROL)["Location"] == "/admin/account/"
        assert actions() == ["second_factor.begun", "second_factor.enrolled", "sign_in.succeeded"]

    def test_the_secret_is_in_the_database_sealed_and_the_codes_as_digests(
        self, client: Client, approver: User
    ) -> None:
        """R-46: a stolen database or backup gives no codes."""
        enter(client, "approver")
        secret = _secret(text(client.get(ENROL)))
        answer = client.post(ENROL, {"code": Authenticator.reading(secret).code()})
        codes = re.findall(r"([0-9A-Z]{5}-[0-9A-Z]{5})</li>", text(answer))
        raw = Authenticator.reading(secret).secret
        dump = _dump()
        for planted in (secret.encode(), raw, raw.hex().encode(), *(code.encode() for code in codes)):
            assert planted not in dump
        assert all(code.replace("-", "").encode() not in dump for code in codes)
        assert secret not in str(list(AuditEntry.objects.values()))
        factor = SecondFactor.objects.get()
        assert keystore().exists(factor.key_id)

    def test_a_secret_moved_to_another_person_does_not_open(self, approver: User, planner: User) -> None:
        """The sealed secret is bound to its owner: two rows exchanged in the database open for nobody."""
        telephone = enrolled(approver)
        SecondFactor.objects.update(user=planner)
        from portal.core.crypto import TamperedError

        with pytest.raises(TamperedError):
            second_factor.check_code(planner, telephone.code())

    def test_an_enrolment_that_somebody_else_saw_is_drawn_anew(self, client: Client, approver: User) -> None:
        """Who knew the initial password and only looked must not know the secret that is confirmed later."""
        enter(client, "approver")
        seen = _secret(text(client.get(ENROL)))
        old_key = SecondFactor.objects.get().key_id
        other = Client()
        enter(other, "approver")
        assert _secret(text(other.get(ENROL))) != seen
        answer = client.post(ENROL, {"code": Authenticator.reading(seen).code()})
        assert answer.status_code == 422
        assert SecondFactor.objects.get().confirmed_at is None
        assert SecondFactor.objects.get().key_id != old_key

    def test_the_code_is_asked_at_every_sign_in(self, client: Client, approver: User) -> None:
        telephone = enrolled(approver)
        assert enter(client, "approver")["Location"] == CODE
        assert client.get("/admin/")["Location"] == f"{LOGIN}?next=/admin/"
        assert client.get(ENROL)["Location"] == CODE
        assert client.get("/api/v1/orders").status_code == 401
        answer = client.post(CODE, {"code": telephone.code()})
        assert answer["Location"] == "/admin/"
        assert client.get("/admin/").status_code == 200
        assert client.get("/api/v1/orders").status_code == 200
        assert actions() == ["sign_in.succeeded"]

    def test_the_session_gets_a_new_key_with_the_second_step(self, client: Client, approver: User) -> None:
        telephone = enrolled(approver)
        enter(client, "approver")
        before = client.session.session_key
        client.post(CODE, {"code": telephone.code()})
        assert client.session.session_key != before
        late = Client()
        late.cookies["sessionid"] = str(before)
        assert late.get("/admin/").status_code == 302

    def test_a_code_counts_once(self, approver: User) -> None:
        """Whoever looks over a shoulder has nothing: RFC 6238, 5.2."""
        telephone = enrolled(approver)
        code = telephone.code()
        second_factor.check_code(approver, code)
        with refused(CodeRefusedError):
            second_factor.check_code(approver, code)
        with refused(CodeRefusedError):
            second_factor.check_code(approver, telephone.code(-1))
        second_factor.check_code(approver, telephone.code(1))

    @pytest.mark.parametrize(("steps", "taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
    def test_a_telephone_may_be_one_step_off(self, approver: User, steps: int, taken: bool) -> None:
        telephone = enrolled(approver)
        now = timezone.now().replace(second=10)
        with mock.patch.object(timezone, "now", return_value=now):
            code = telephone.code(steps)
            if taken:
                second_factor.check_code(approver, code)
            else:
                with refused(CodeRefusedError):
                    second_factor.check_code(approver, code)

    @pytest.mark.parametrize(
        "code", ["", "12345", "1234567", "１２３４５６", "abcdef", "-12345", "1e5000", "\0" * 6]
    )
    def test_what_is_no_code_is_refused(self, approver: User, code: str) -> None:
        enrolled(approver)
        with refused(CodeRefusedError):
            second_factor.check_code(approver, code)

    def test_codes_cannot_be_guessed_by_trying(self, client: Client, approver: User) -> None:
        """Five wrong codes lock the name and end the half session; a new password step clears nothing."""
        telephone = enrolled(approver)
        enter(client, "approver")
        for _ in range(3):
            assert client.post(CODE, {"code": "000000"}).status_code == 422
        again = Client()
        assert enter(again, "approver")["Location"] == CODE
        for _ in range(2):
            assert again.post(CODE, {"code": "000000"}).status_code == 422
        answer = again.post(CODE, {"code": telephone.code()})
        assert answer["Location"] == LOGIN
        assert said(answer).startswith("登录失败次数过多")
        assert enter(again, "approver").status_code == 429
        assert actions() == ["second_factor.failed"] * 5 + ["sign_in.locked"]

    def test_a_recovery_code_counts_once(self, client: Client, approver: User) -> None:
        enrolled(approver)
        codes = second_factor.renew_codes(approver)
        enter(client, "approver")
        assert client.post(CODE, {"code": codes[0].lower().replace("-", " ")})["Location"] == "/admin/"
        assert actions() == [
            "second_factor.codes_renewed",
            "second_factor.recovery_used",
            "sign_in.succeeded",
        ]
        assert AuditEntry.objects.get(action="second_factor.recovery_used").details == {"left": 9}
        with refused(CodeRefusedError):
            second_factor.check_code(approver, codes[0])
        second_factor.check_code(approver, codes[1])

    def test_a_recovery_code_of_somebody_else_does_not_count(self, approver: User, planner: User) -> None:
        enrolled(approver)
        enrolled(planner)
        codes = second_factor.renew_codes(approver)
        with refused(CodeRefusedError):
            second_factor.check_code(planner, codes[0])

    def test_recovery_codes_are_renewed_against_a_code(self, approver: User) -> None:
        client = verified_client(approver)
        factor = SecondFactor.objects.get()
        telephone = Authenticator(second_factor._secret(factor))
        old = second_factor.renew_codes(approver)
        address = reverse("second-factor-codes")
        assert client.post(address, {"code": "000000"}).status_code == 422
        answer = client.post(address, {"code": telephone.code()})
        new = re.findall(r"([0-9A-Z]{5}-[0-9A-Z]{5})</li>", text(answer))
        assert len(new) == 10
        assert not set(new) & set(old)
        with refused(CodeRefusedError):
            second_factor.check_code(approver, old[0])
        assert RecoveryCode.objects.count() == 10

    def test_a_plain_role_may_have_a_second_factor_and_is_then_asked(
        self, client: Client, planner: User
    ) -> None:
        enrolled(planner)
        assert enter(client, "planner")["Location"] == CODE

    def test_one_may_leave_half_way(self, client: Client, approver: User) -> None:
        enrolled(approver)
        enter(client, "approver")
        shown = text(client.get(CODE))
        assert "正在登录：approver" in shown
        assert client.post("/admin/logout/")["Location"] == LOGIN
        assert client.get(LOGIN).status_code == 200
        assert actions() == [], "who was never in does not leave"


class TestReset:
    def test_a_security_administrator_resets_somebody_else(self, approver: User, security: User) -> None:
        theirs = verified_client(approver)
        key = SecondFactor.objects.get(user=approver).key_id
        desk = verified_client(security)
        answer = desk.post(page("portal.user", "reset_factor", approver.pk))
        assert said(answer) == "两步验证已重置"
        assert theirs.get("/admin/").status_code == 302
        assert not SecondFactor.objects.filter(user=approver).exists()
        assert actions()[-2:] == ["session.ended", "second_factor.reset"]
        entry = AuditEntry.objects.get(action="second_factor.reset")
        assert (entry.actor_name, entry.object_id) == ("security", str(approver.pk))
        assert enter(Client(), "approver")["Location"] == ENROL
        assert key

    def test_not_ones_own(self, security: User) -> None:
        enrolled(security)
        with refused(SecondFactorError) as caught:
            second_factor.reset_second_factor(security, actor=security)
        assert caught.value.message == "不能重置自己的两步验证，请由另一名安全管理员办理"

    @pytest.mark.parametrize("role", [Role.SYSTEM_ADMINISTRATOR, Role.AUDITOR, Role.PURCHASER_APPROVER])
    def test_nobody_else(self, approver: User, gov: Organisation, role: str) -> None:
        from portal.core.errors import PermissionRefusedError

        enrolled(approver)
        other = make_person(role, gov, "other")
        with refused(PermissionRefusedError):
            second_factor.reset_second_factor(approver, actor=other)

    def test_the_key_goes_with_the_factor(
        self, approver: User, security: User, django_capture_on_commit_callbacks: Any
    ) -> None:
        """A secret in an old backup of the database does not open any more."""
        enrolled(approver)
        key = SecondFactor.objects.get().key_id
        with django_capture_on_commit_callbacks(execute=True):
            second_factor.reset_second_factor(approver, actor=security)
        assert not keystore().exists(key)


class TestRules:
    def test_the_roles_that_need_it(self) -> None:
        """Who sees people in the clear, decides second, signs, releases, destroys or administers."""
        needed = {
            Role.PURCHASER_CLERK,
            Role.PURCHASER_APPROVER,
            Role.SUPPLIER_OPERATOR,
            Role.SUPPLIER_QUALITY,
            Role.WAREHOUSE_KEEPER,
            Role.BANK_CLERK,
            Role.SYSTEM_ADMINISTRATOR,
            Role.SECURITY_ADMINISTRATOR,
            Role.AUDITOR,
        }
        assert needed <= PRIVILEGED_ROLES
        assert not {Role.SUPPLIER_PLANNER, Role.CARD_SYSTEM} & PRIVILEGED_ROLES

    def test_every_privilege_is_somebodys(self) -> None:
        granted = frozenset().union(*PERMISSIONS.values())
        assert granted >= PRIVILEGED

    def test_settings_ask_for_more_roles_never_for_fewer(
        self, planner: User, approver: User, settings: Any
    ) -> None:
        assert (second_factor.is_required(planner), second_factor.is_required(approver)) == (False, True)
        settings.TOTP_MORE_ROLES = [Role.SUPPLIER_PLANNER]
        assert (second_factor.is_required(planner), second_factor.is_required(approver)) == (True, True)

    def test_the_address_of_the_picture(self, approver: User) -> None:
        shown = second_factor.begin_enrolment(approver)
        assert shown.address.startswith("otpauth://totp/%E7%A4%BE%E4%BF%9D")
        assert (
            shown.address.endswith(
                f":approver?secret={shown.secret}&issuer=%E7%A4%BE%E4%BF%9D%E5%8D%A1%E5%88%B6%E5%8D%A1%E5%B9%B3%E5%8F%B0"
                "&algorithm=SHA1&digits=6&period=30"
            )
            or "%3Aapprover?" in shown.address
        )
        assert shown.secret not in repr(shown)

    @given(text_=st.text(max_size=40))
    @pytest.mark.django_db(databases=[])
    def test_the_form_of_a_code(self, text_: str) -> None:
        """Only six ASCII digits, spaces apart, are ever compared."""
        matched = bool(second_factor._CODE.match(text_.replace(" ", "")))
        squeezed = text_.replace(" ", "")
        assert matched == (len(squeezed) == 6 and squeezed.isascii() and squeezed.isdigit())


def _secret(shown: str) -> str:
    found = re.search(r'id="secret">([A-Z2-7]{32})<', shown)
    assert found
    return found[1]


def _dump() -> bytes:
    """Return every value of the tables in question, as text and as bytes."""
    parts: list[bytes] = []
    with connection.cursor() as cursor:
        for table in ("secondfactor", "recoverycode", "usersession", "auditentry", "user"):
            cursor.execute(f"SELECT * FROM portal_{table}")
            for row in cursor.fetchall():
                parts.extend(
                    bytes(value) if isinstance(value, memoryview | bytes) else str(value).encode()
                    for value in row
                )
    return b"\n".join(parts)

"""Account files, choices, orders, contracts, calendar, master data and sender keys in the admin."""

from __future__ import annotations

import datetime as dt
import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from openpyxl import load_workbook

from orders.models import (
    AccountFile,
    Contract,
    DeliveryPoint,
    Order,
    SenderKey,
    SupplierChoice,
    WorkCalendarDay,
)
from portal.choices import Role
from portal.core.crypto import Sm2PrivateKey
from portal.core.seal_proof import prove_possession
from portal.models import Task
from portal.queue import run_task
from tests.orders.scene import Scene, csv_file, make_contract, person
from tests.portal.desk import audited, last_action, make_person, page, said, sign_in, text

pytestmark = pytest.mark.django_db
FILE, ORDER, CHOICE = "orders.accountfile", "orders.order", "orders.supplierchoice"


def run_all() -> None:
    for task in Task.objects.filter(status="queued").order_by("pk"):
        assert run_task(task.pk), task.error_code


def sent(content: io.BytesIO, name: str = "accounts.csv") -> dict[str, SimpleUploadedFile]:
    return {"file": SimpleUploadedFile(name, content.read())}


@pytest.fixture
def bank_desk(scene: Scene) -> Client:
    return sign_in(scene.bank_clerks[0])


class TestAccountFiles:
    ROWS = ([*person(1).row()], [*person(2).row()], ["44060419600101001", "张样", "6222020000000000009"])

    def test_upload_dry_run_problems_and_load(self, scene: Scene, bank_desk: Client) -> None:
        """R-8, R-9: checked before anything is loaded; problems by row and column; then matched."""
        scene.add_records([person(1), person(2)], scene.banks[0])
        answer = bank_desk.post(page(FILE, "upload"), sent(csv_file(self.ROWS)))
        file = AccountFile.objects.get()
        assert answer["Location"] == page(FILE, "change", file.pk)
        assert (file.bank, file.status) == (scene.banks[0], "received")
        run_all()
        shown = text(bank_desk.get(page(FILE, "change", file.pk)))
        assert "3 = 2 + 1" in shown
        assert "证件号码位数不对" in shown
        assert person(1).number not in shown
        workbook = bank_desk.get(page(FILE, "download_problems", file.pk))
        sheet = load_workbook(io.BytesIO(b"".join(workbook.streaming_content))).active  # type: ignore[attr-defined]
        assert "44060419600101001" in str([[cell.value for cell in row] for row in sheet.rows])
        assert said(bank_desk.post(page(FILE, "load", file.pk))) == "正在后台导入并匹配"
        run_all()
        file.refresh_from_db()
        assert file.status == "loaded"
        run_all()
        assert set(scene.package.records.values_list("status", flat=True)) == {"matched"}

    def test_a_file_without_its_columns_is_refused_with_the_reason(self, bank_desk: Client) -> None:
        bank_desk.post(page(FILE, "upload"), sent(csv_file([["1", "2"]], head=("甲", "乙"))))
        for task in Task.objects.filter(status="queued"):
            run_task(task.pk)
        file = AccountFile.objects.get()
        assert file.status == "refused"
        assert file.refusal_code in text(bank_desk.get(page(FILE, "change", file.pk)))

    def test_an_empty_file_is_refused_on_the_page(self, bank_desk: Client) -> None:
        answer = bank_desk.post(page(FILE, "upload"), sent(io.BytesIO(b"")))
        assert answer.status_code == 422
        assert AccountFile.objects.count() == 0

    def test_another_bank_sees_nothing_of_it(self, scene: Scene, bank_desk: Client) -> None:
        bank_desk.post(page(FILE, "upload"), sent(csv_file(self.ROWS)))
        file = AccountFile.objects.get()
        other = sign_in(scene.bank_clerks[1])
        assert file.file_name not in text(other.get(page(FILE, "changelist")))
        for name in ("change", "load", "download_problems", "progress"):
            assert other.get(page(FILE, name, file.pk)).status_code == 404
        assert other.post(page(FILE, "load", file.pk)).status_code == 404
        file.refresh_from_db()
        assert file.status == "received"


class TestChoice:
    def test_a_bank_chooses_and_chooses_again(self, scene: Scene, bank_desk: Client) -> None:
        """R-6: each bank decides; history is kept and one choice counts."""
        first, second = scene.contracts
        values = {"contract": first.pk, "valid_from": "2026-11-23", "reason": "质量"}
        answer = bank_desk.post(page(CHOICE, "choose"), values)
        assert said(answer) == "已选定 SUP1，自 2026年11月23日 起生效"
        bank_desk.post(page(CHOICE, "choose"), {"contract": second.pk, "valid_from": "2026-11-23"})
        assert list(SupplierChoice.objects.values_list("contract", flat=True)) == [second.pk, first.pk]
        shown = text(bank_desk.get(page(CHOICE, "changelist")))
        assert (shown.count("生效中"), shown.count("已被替代")) == (1, 1)

    def test_a_refused_choice_changes_nothing(self, scene: Scene, bank_desk: Client) -> None:
        values = {"contract": scene.contracts[0].pk, "valid_from": "2020-01-01"}
        before = audited()
        answer = bank_desk.post(page(CHOICE, "choose"), values)
        assert answer.status_code == 409
        assert said(answer).startswith("生效日期早于合同签订日期")
        assert (SupplierChoice.objects.count(), audited()) == (0, before)

    def test_the_purchaser_may_not_choose(self, scene: Scene) -> None:
        desk = sign_in(scene.clerk)
        assert desk.post(page(CHOICE, "choose"), {"contract": scene.contracts[0].pk}).status_code == 403


class TestOrders:
    @pytest.fixture
    def ordered(self, scene: Scene, bank_desk: Client) -> Client:
        scene.add_matched([person(1), person(2)], scene.banks[0])
        scene.add_matched([person(3)], scene.banks[1])
        bank_desk.post(
            page(CHOICE, "choose"), {"contract": scene.contracts[0].pk, "valid_from": "2026-11-23"}
        )
        return sign_in(scene.clerk)

    def test_what_is_matched_is_ordered_and_what_waits_says_why(self, ordered: Client) -> None:
        """R-6, R-10: one bank has chosen, the other has not."""
        asked = text(ordered.get(page(ORDER, "create")))
        assert "可以下单" in asked
        assert "该银行尚未选定中标人" in asked
        answer = ordered.post(page(ORDER, "create"))
        assert said(answer) == "已生成 1 个订单，共 2 张"
        order = Order.objects.get()
        assert (order.quantity, order.due_on) == (2, dt.date(2026, 12, 1))
        answer = ordered.post(page(ORDER, "create"))
        assert said(answer) == "没有可以生成的订单；应为：已匹配且已选定中标人的记录（input_refused）"
        assert Order.objects.count() == 1

    def test_days_left_and_the_light_are_shown(self, ordered: Client) -> None:
        ordered.post(page(ORDER, "create"))
        assert "6 天" in text(ordered.get(page(ORDER, "changelist")))
        Order.objects.update(matched_on=dt.date(2026, 11, 1), due_on=dt.date(2026, 11, 20))
        late = text(ordered.get(page(ORDER, "changelist"), {"deadline": "late"}))
        assert "逾期 1 天" in late
        assert "pk-danger" in late
        assert "逾期的订单" in text(ordered.get("/admin/"))
        number = Order.objects.get().number
        assert number in late
        assert number not in text(ordered.get(page(ORDER, "changelist"), {"deadline": "today"}))

    def test_each_sees_their_orders_only(self, scene: Scene, ordered: Client) -> None:
        ordered.post(page(ORDER, "create"))
        order = Order.objects.get()
        planner = make_person(Role.SUPPLIER_PLANNER, scene.suppliers[0])
        stranger = make_person(Role.SUPPLIER_PLANNER, scene.suppliers[1], "stranger")
        assert order.number in text(sign_in(planner).get(page(ORDER, "changelist")))
        assert order.number not in text(sign_in(stranger).get(page(ORDER, "changelist")))
        assert sign_in(stranger).get(page(ORDER, "change", order.pk)).status_code == 404
        assert sign_in(planner).post(page(ORDER, "create")).status_code == 403

    def test_matching_is_scheduled_for_waiting_banks(self, scene: Scene, ordered: Client) -> None:
        assert said(ordered.post(page(ORDER, "match"))) == "没有待匹配的记录"
        scene.add_records([person(9)], scene.banks[1])
        assert said(ordered.post(page(ORDER, "match"))) == "已安排 1 家银行的匹配"


def test_a_contract_shows_its_use_in_quantity_and_money(scene: Scene, bank_desk: Client) -> None:
    """R-1, R-2."""
    scene.add_matched([person(1), person(2)], scene.banks[0])
    bank_desk.post(page(CHOICE, "choose"), {"contract": scene.contracts[0].pk, "valid_from": "2026-11-23"})
    desk = sign_in(scene.clerk)
    desk.post(page(ORDER, "create"))
    shown = text(desk.get(page("orders.contract", "changelist")))
    assert "2 / 1,375,000 张，剩余 1,374,998" in shown
    assert "¥19.60 / ¥13,750,000.00，剩余 ¥13,749,980.40" in shown


def test_a_contract_is_drafted_by_the_clerk_and_activated_by_the_approver(scene: Scene) -> None:
    """R-1, R-3, R-4: caps stand in the form's answer; a contract in force is not edited."""
    clerk, approver = sign_in(scene.clerk), sign_in(scene.approver)
    values = {
        "number": "HT-9", "lot": "3", "supplier": scene.suppliers[0].pk, "quantity_cap": "550001",
        "budget": "5500000", "finished_price": "9.80", "face_fee": "1.30", "signed_on": "2026-03-03",
    }  # fmt: skip
    answer = clerk.post(page("orders.contract", "add"), values)
    assert "数量或预算超出该包组的上限（R-1）" in text(answer)
    assert clerk.post(page("orders.contract", "add"), values | {"quantity_cap": "550000"}).status_code == 302
    contract = Contract.objects.get(number="HT-9")
    assert (contract.status, last_action()) == ("draft", "contract.added")
    assert clerk.post(page("orders.contract", "activate", contract.pk)).status_code == 403
    assert said(approver.post(page("orders.contract", "activate", contract.pk))) == "合同已启用"
    assert clerk.post(page("orders.contract", "change", contract.pk), values).status_code == 403
    second = make_contract(scene.suppliers[1], 3, number="HT-10", status="draft")
    answer = approver.post(page("orders.contract", "activate", second.pk))
    assert said(answer) == "该包组已有执行中的合同（R-1）；位置：包组三（conflict）"
    second.refresh_from_db()
    assert second.status == "draft"


def test_a_day_is_entered_and_running_orders_move(scene: Scene, bank_desk: Client) -> None:
    """R-10: the deadline follows the calendar."""
    scene.add_matched([person(1)], scene.banks[0])
    bank_desk.post(page(CHOICE, "choose"), {"contract": scene.contracts[0].pk, "valid_from": "2026-11-23"})
    sign_in(scene.clerk).post(page(ORDER, "create"))
    values = {"date": "2026-11-25", "name": "临时停工"}
    assert sign_in(scene.clerk).post(page("orders.workcalendarday", "add_day"), values).status_code == 403
    answer = sign_in(scene.approver).post(page("orders.workcalendarday", "add_day"), values)
    assert said(answer) == "已保存 2026-11-25，订单期限已重新计算"
    assert Order.objects.get().due_on == dt.date(2026, 12, 2)
    day = WorkCalendarDay.objects.get(date="2026-11-25")
    values = {"name": "正常上班", "is_workday": "on"}
    sign_in(scene.approver).post(page("orders.workcalendarday", "change_day", "2026-11-25"), values)
    day.refresh_from_db()
    assert (day.is_workday, Order.objects.get().due_on) == (True, dt.date(2026, 12, 1))


class TestMasterData:
    POINT = "orders.deliverypoint"

    def values(self, bank: int, **changes: str) -> dict[str, object]:
        return {
            "bank": bank,
            "code": "N-1",
            "name": "新网点",
            "address": "样例路2号",
            "is_active": "on",
        } | changes

    def test_a_bank_adds_and_changes_its_own_points(self, scene: Scene, bank_desk: Client) -> None:
        own = scene.banks[0]
        assert bank_desk.post(page(self.POINT, "add"), self.values(own.pk)).status_code == 302
        point = DeliveryPoint.objects.get(code="N-1")
        assert (point.bank, last_action()) == (own, "deliverypoint.added")
        bank_desk.post(page(self.POINT, "change", point.pk), self.values(own.pk, name="改名"))
        point.refresh_from_db()
        assert (point.name, last_action()) == ("改名", "deliverypoint.changed")

    def test_never_another_banks(self, scene: Scene, bank_desk: Client) -> None:
        other = scene.banks[1]
        answer = bank_desk.post(page(self.POINT, "add"), self.values(other.pk))
        assert answer.status_code == 200
        assert DeliveryPoint.objects.filter(code="N-1").count() == 0
        theirs = other.delivery_points.get()
        assert bank_desk.post(page(self.POINT, "change", theirs.pk), self.values(other.pk)).status_code == 404
        theirs.refresh_from_db()
        assert theirs.name != "新网点"

    def test_a_bank_sets_packing_and_its_columns(self, scene: Scene, bank_desk: Client) -> None:
        """R-19 and the saved mapping of account files."""
        profile = scene.banks[0].bank_profile
        change = page("orders.bankprofile", "change", profile.pk)
        shown = text(bank_desk.get(change))
        assert scene.banks[0].short_name in shown
        assert page("portal.organisation", "change", scene.banks[0].pk) not in shown
        assert bank_desk.post(change, {"sort_order": "number", "carton_size": "100"}).status_code == 302
        profile.refresh_from_db()
        assert (profile.sort_order, profile.carton_size) == ("number", 100)
        assert "每箱张数须在 1 至 2000 之间" in text(
            bank_desk.post(change, {"sort_order": "number", "carton_size": "0"})
        )
        layout = page("orders.bankprofile", "set_layout", profile.pk)
        answer = bank_desk.post(layout, {"number": "号", "name": "名", "account": "账", "header_row": "2"})
        assert said(answer) == "已保存"
        profile.refresh_from_db()
        assert profile.account_layout == {
            "columns": {"number": "号", "name": "名", "account": "账"},
            "header_row": 2,
        }
        answer = bank_desk.post(layout, {"number": "号"})
        assert said(answer).endswith("（account_layout）")
        bank_desk.post(layout, {})
        profile.refresh_from_db()
        assert profile.account_layout == {}


class TestSenderKeys:
    KEY = "orders.senderkey"

    def values(self, scene: Scene, key: str, proof: str = "00") -> dict[str, object]:
        return {
            "organisation": scene.purchaser.pk,
            "public_key": key,
            "proof": proof,
            "use": "both",
            "valid_from": "2026-11-01T08:00",
            "valid_until": "2099-11-01T08:00",
        }

    def test_the_security_administrator_adds_and_revokes(self, scene: Scene) -> None:
        desk = sign_in(make_person(Role.SECURITY_ADMINISTRATOR, scene.purchaser))
        pair = Sm2PrivateKey.generate()
        key, proof = pair.public, prove_possession(scene.purchaser.code, pair)
        answer = desk.post(page(self.KEY, "add_key"), self.values(scene, key.hex(), proof))
        row = SenderKey.objects.get()
        assert said(answer) == f"已登记，指纹 {key.fingerprint()}"
        assert row.public_key == key.to_pem()
        assert said(desk.post(page(self.KEY, "revoke", row.pk))) == "公钥已撤销"
        assert said(desk.post(page(self.KEY, "revoke", row.pk))) == "该公钥已撤销（sender_key_refused）"

    @pytest.mark.parametrize("text_", ["00" * 64, "abc", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END"])
    def test_what_is_no_key_is_refused(self, scene: Scene, text_: str) -> None:
        desk = sign_in(make_person(Role.SECURITY_ADMINISTRATOR, scene.purchaser))
        answer = desk.post(page(self.KEY, "add_key"), self.values(scene, text_))
        assert answer.status_code == 409
        assert SenderKey.objects.count() == 0

    def test_nobody_else_may(self, scene: Scene) -> None:
        desk = sign_in(scene.clerk)
        answer = desk.post(page(self.KEY, "add_key"), self.values(scene, "00"))
        assert answer.status_code == 403

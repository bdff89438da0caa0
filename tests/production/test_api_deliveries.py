"""Deliveries, return files and certificates through the API: who sees and does what (R-22, R-23)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from orders.models import Order
from portal.choices import Role
from portal.core.crypto import sm3
from portal.core.keystore import KeyPurpose
from portal.files import keystore, portal_key, store, write_sealed
from portal.models import User
from production import certificate
from production.models import Batch, Carton, Delivery, DestructionCertificate, Receipt, ReturnFile
from tests.api import ROOT, actions, client_of, code_of, ids, problem
from tests.orders.scene import Scene, make_organisation, make_scene, make_user
from tests.orders.test_api_orders import make_order

pytestmark = pytest.mark.django_db
DELIVERIES, CARTONS = f"{ROOT}/deliveries", f"{ROOT}/cartons"
RETURNS, CERTIFICATES = f"{ROOT}/return-files", f"{ROOT}/destruction-certificates"


@dataclass
class Sent:
    """One dispatched delivery of two cartons to the first bank, and who deals with it."""

    scene: Scene
    order: Order
    batch: Batch
    delivery: Delivery
    cartons: list[Carton]
    clerk: User
    stranger: User
    planner: User


@pytest.fixture
def sent() -> Sent:
    scene = make_scene()
    order = make_order(scene, scene.banks[0], status="in_production")
    batch = Batch.objects.create(
        number="B-1", order=order, quantity=5, card_kind="finished", sort_order="number", carton_size=3,
        due_on=order.due_on, status="dispatched", created_by=scene.clerk,
        key_id=keystore().create(KeyPurpose.BATCH, "B-1"),
    )  # fmt: skip
    delivery = Delivery.objects.create(
        number="B-1-01", batch=batch, delivery_point=scene.banks[0].delivery_points.get(), card_count=5,
        status="dispatched", list_name="lists/B-1-01.xlsx", list_digest=sm3(b"the list"),
    )  # fmt: skip
    with write_sealed(delivery.list_name, batch.key_id) as target:
        target.write(b"the list")
    cartons = [
        Carton.objects.create(delivery=delivery, number=f"B-1-01-{n}", card_count=count)
        for n, count in ((1, 3), (2, 2))
    ]
    planner = make_user("planner", scene.suppliers[0], Role.SUPPLIER_PLANNER)
    return Sent(scene, order, batch, delivery, cartons, *scene.bank_clerks, planner)


def receipt(user: User, carton: Carton, body: Any, **headers: Any) -> Any:
    return client_of(user).post(f"{CARTONS}/{carton.pk}/receipt", body, format="json", **headers)


class TestDeliveries:
    def test_the_bank_sees_its_delivery_with_cartons(self, sent: Sent) -> None:
        """R-23: every card is registered by carton before the bank signs."""
        client = client_of(sent.clerk)
        listed = client.get(DELIVERIES).json()["results"]
        shown = client.get(f"{DELIVERIES}/{sent.delivery.pk}").json()
        assert shown == listed[0] | {
            "cartons": [
                {"id": carton.pk, "number": carton.number, "card_count": carton.card_count, "receipt": None}
                for carton in sent.cartons
            ]
        }
        assert (shown["batch"], shown["order"], shown["bank"]) == ("B-1", sent.order.number, "BANK1")
        assert (shown["list_is_ready"], shown["list_digest"]) == (True, sm3(b"the list").hex())

    def test_a_page_costs_the_same_whatever_its_length(
        self, sent: Sent, django_assert_max_num_queries: Any
    ) -> None:
        client = client_of(sent.clerk)
        client.get(DELIVERIES)
        with django_assert_max_num_queries(2):
            client.get(DELIVERIES)

    def test_another_banks_delivery_does_not_exist(self, sent: Sent) -> None:
        client = client_of(sent.stranger)
        before = actions()
        assert ids(client.get(DELIVERIES)) == []
        paths = [
            ("get", f"{DELIVERIES}/{sent.delivery.pk}"),
            ("get", f"{DELIVERIES}/{sent.delivery.pk}/list"),
            ("post", f"{DELIVERIES}/{sent.delivery.pk}/sign"),
            ("get", f"{CARTONS}/{sent.cartons[0].pk}"),
            ("post", f"{CARTONS}/{sent.cartons[0].pk}/receipt"),
        ]
        for method, path in paths:
            assert code_of(getattr(client, method)(path), 404) == "not_found"
        assert actions() == before
        assert not Receipt.objects.exists()

    def test_the_list_is_decrypted_while_it_is_sent_and_the_download_audited(self, sent: Sent) -> None:
        answer = client_of(sent.clerk).get(f"{DELIVERIES}/{sent.delivery.pk}/list")
        assert b"".join(answer.streaming_content) == b"the list"
        assert "B-1-01.xlsx" in answer["Content-Disposition"]
        assert actions()[-1] == "delivery.list_downloaded"

    def test_a_list_that_is_not_written_yet_is_refused(self, sent: Sent) -> None:
        Delivery.objects.update(list_name="")
        client = client_of(sent.clerk)
        before = actions()
        assert code_of(client.get(f"{DELIVERIES}/{sent.delivery.pk}/list"), 422) == "list_not_ready"
        assert actions() == before

    def test_the_supplier_looks_but_neither_downloads_nor_signs(self, sent: Sent) -> None:
        client = client_of(sent.planner)
        before = actions()
        assert ids(client.get(DELIVERIES)) == [sent.delivery.pk]
        url = f"{DELIVERIES}/{sent.delivery.pk}"
        assert code_of(client.get(f"{url}/list"), 403) == "permission_refused"
        assert code_of(client.post(f"{url}/sign"), 403) == "permission_refused"
        assert actions() == [*before, "access.refused", "access.refused"]


class TestReceipts:
    def test_the_bank_confirms_and_signs_each_once(self, sent: Sent) -> None:
        """R-23: a delivery is signed when every carton is counted; the same request again changes nothing."""
        first = receipt(sent.clerk, sent.cartons[0], {"counted": 3}, HTTP_IDEMPOTENCY_KEY="c-1")
        again = receipt(sent.clerk, sent.cartons[0], {"counted": 3}, HTTP_IDEMPOTENCY_KEY="c-1")
        assert (first.status_code, first.json()) == (201, again.json())
        assert (first.json()["result"], first.json()["missing_positions"]) == ("confirmed", [])
        client = client_of(sent.clerk)
        assert code_of(client.post(f"{DELIVERIES}/{sent.delivery.pk}/sign"), 422) == "cartons_open"
        body = {"counted": 1, "missing_positions": [2], "note": "少一张"}
        assert receipt(sent.clerk, sent.cartons[1], body).json()["result"] == "different"
        signed = client.post(f"{DELIVERIES}/{sent.delivery.pk}/sign", HTTP_IDEMPOTENCY_KEY="s-1")
        assert (signed.status_code, signed.json()["status"]) == (200, "signed")
        assert [each["receipt"]["counted"] for each in signed.json()["cartons"]] == [3, 1]
        assert (
            client.post(f"{DELIVERIES}/{sent.delivery.pk}/sign", HTTP_IDEMPOTENCY_KEY="s-1").json()
            == signed.json()
        )
        assert code_of(client.post(f"{DELIVERIES}/{sent.delivery.pk}/sign"), 409) == "transition_refused"
        sent.batch.refresh_from_db()
        assert sent.batch.status == "signed"
        assert actions().count("delivery.signed") == 1

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"counted": 2}, 422, "count_refused"),
            ({"counted": 2, "missing_positions": [4], "note": "x"}, 422, "count_refused"),
            ({"counted": 2, "missing_positions": [1]}, 422, "count_refused"),
            ({"counted": -1}, 400, "invalid"),
            ({"counted": "many"}, 400, "invalid"),
            ({}, 400, "invalid"),
            ([], 400, "invalid"),
            ({"counted": 2, "missing_positions": [0]}, 400, "invalid"),
            ({"counted": 2, "missing_positions": [10**12]}, 400, "invalid"),
            ({"counted": 3, "note": "长" * 201}, 400, "invalid"),
            ({"counted": 3, "note": "a\0b"}, 400, "invalid"),
        ],
    )
    def test_a_count_that_cannot_be_is_refused(self, sent: Sent, body: Any, status: int, code: str) -> None:
        client = client_of(sent.clerk)
        before = actions()
        answer = client.post(f"{CARTONS}/{sent.cartons[0].pk}/receipt", body, format="json")
        assert code_of(answer, status) == code
        assert actions() == before
        assert not Receipt.objects.exists()

    def test_the_field_at_fault_is_named(self, sent: Sent) -> None:
        body = problem(
            receipt(sent.clerk, sent.cartons[0], {"counted": 2, "missing_positions": [1, "x"]}), 400
        )
        assert [(each["field"], each["code"]) for each in body["errors"]] == [
            ("missing_positions.1", "invalid")
        ]

    def test_a_body_without_measure_is_refused_unread(self, sent: Sent) -> None:
        """DRF would read any length into memory."""
        answer = receipt(sent.clerk, sent.cartons[0], {"counted": 3, "note": "x" * 70_000})
        assert code_of(answer, 422) == "request_too_large"

    def test_no_json_is_told_apart(self, sent: Sent) -> None:
        url = f"{CARTONS}/{sent.cartons[0].pk}/receipt"
        answer = client_of(sent.clerk).post(url, "{", content_type="application/json")
        assert code_of(answer, 400) == "parse_error"

    def test_a_second_word_on_a_carton_is_a_conflict(self, sent: Sent) -> None:
        receipt(sent.clerk, sent.cartons[0], {"counted": 3})
        assert code_of(receipt(sent.clerk, sent.cartons[0], {"counted": 3}), 409) == "conflict"
        assert Receipt.objects.count() == 1


class TestReturnFiles:
    @pytest.fixture
    def file(self, sent: Sent) -> ReturnFile:
        with store("returns/B-1.scp") as target:
            target.write(b"sealed for the province")
        return ReturnFile.objects.create(
            batch=sent.batch, stored_name="returns/B-1.scp", card_count=5, failed_count=0, digest=sm3(b"x")
        )

    def test_the_provinces_system_fetches_it(self, sent: Sent, file: ReturnFile) -> None:
        """回盘: what was made goes back to the card system."""
        province = make_organisation("province", "PROV")
        client = client_of(make_user("province-system", province, Role.CARD_SYSTEM))
        (row,) = client.get(RETURNS).json()["results"]
        assert (row["id"], row["batch"], row["digest"]) == (file.pk, "B-1", sm3(b"x").hex())
        answer = client.get(f"{RETURNS}/{file.pk}/content")
        assert b"".join(answer.streaming_content) == b"sealed for the province"
        assert actions()[-1] == "returnfile.downloaded"

    def test_banks_have_no_part_in_it(self, sent: Sent, file: ReturnFile) -> None:
        assert code_of(client_of(sent.clerk).get(RETURNS), 403) == "permission_refused"

    def test_another_suppliers_file_does_not_exist(self, sent: Sent, file: ReturnFile) -> None:
        client = client_of(make_user("other", sent.scene.suppliers[1], Role.SUPPLIER_PLANNER))
        assert ids(client.get(RETURNS)) == []
        assert code_of(client.get(f"{RETURNS}/{file.pk}/content"), 404) == "not_found"


class TestCertificates:
    @pytest.fixture
    def paper(self, sent: Sent) -> DestructionCertificate:
        content = {
            "number": "XH-1", "batch": "B-1", "order": "DD-1", "bank": "样例银行", "supplier": "样例公司",
            "facts": [["销毁记录数", "5"]], "method": "销毁密钥", "keys": ["k1"], "files": [],
            "closed_packages": [], "signed_by": "甲", "destroyed_by": "乙", "issuer": "样例门户",
            "destroyed_at": "2026-11-23 09:00", "packages": ["P1"], "key_fingerprint": "00",
        }  # fmt: skip
        signature = certificate.sign(content, portal_key())
        return DestructionCertificate.objects.create(
            number="XH-1", batch=sent.batch, content=content, signature=signature
        )

    def test_content_and_signature_can_be_checked_offline(
        self, sent: Sent, paper: DestructionCertificate
    ) -> None:
        """R-22: the certificate proves itself with the public key alone."""
        shown = client_of(sent.scene.clerk).get(f"{CERTIFICATES}/{paper.pk}").json()
        public = portal_key().public
        assert certificate.verify(shown["content"], bytes.fromhex(shown["signature"]), public)
        answer = client_of(sent.scene.clerk).get(f"{CERTIFICATES}/{paper.pk}/json")
        whole = json.loads(b"".join(answer.streaming_content))
        assert (whole["content"], whole["public_key"]) == (paper.content, public.to_pem())

    def test_people_file_it_as_pdf(self, sent: Sent, paper: DestructionCertificate) -> None:
        answer = client_of(sent.scene.clerk).get(f"{CERTIFICATES}/{paper.pk}/pdf")
        assert (answer["Content-Type"], "XH-1.pdf" in answer["Content-Disposition"]) == (
            "application/pdf",
            True,
        )
        text = PdfReader(BytesIO(b"".join(answer.streaming_content))).pages[0].extract_text()
        assert "XH-1" in text

    def test_an_unsigned_one_is_no_paper_yet(self, sent: Sent, paper: DestructionCertificate) -> None:
        DestructionCertificate.objects.update(signature=b"")
        for form in ("pdf", "json"):
            answer = client_of(sent.scene.clerk).get(f"{CERTIFICATES}/{paper.pk}/{form}")
            assert code_of(answer, 422) == "certificate_unsigned"

    def test_banks_and_other_suppliers_see_none(self, sent: Sent, paper: DestructionCertificate) -> None:
        assert code_of(client_of(sent.clerk).get(CERTIFICATES), 403) == "permission_refused"
        client = client_of(make_user("other", sent.scene.suppliers[1], Role.SUPPLIER_PLANNER))
        for path in ("", "/pdf", "/json"):
            assert code_of(client.get(f"{CERTIFICATES}/{paper.pk}{path}"), 404) == "not_found"

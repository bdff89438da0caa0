"""Orders and account files through the API: each organisation its own rows (R-5, R-8, R-10, R-48)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from openpyxl import load_workbook
from rest_framework.test import APIClient

from orders.models import AccountFile, Order
from portal.choices import Role
from portal.models import Organisation, Task
from portal.queue import run_task
from tests.api import ROOT, actions, client_of, code_of, ids, problem
from tests.orders.scene import Scene, csv_file, make_user, person

ORDERS, FILES = f"{ROOT}/orders", f"{ROOT}/account-files"


def make_order(scene: Scene, bank: Organisation, lot: int = 0, **values: Any) -> Order:
    defaults: dict[str, Any] = {
        "number": f"DD-{bank.code}-{lot}-{Order.objects.count()}",
        "bank": bank,
        "contract": scene.contracts[lot],
        "card_kind": "finished",
        "quantity": 10,
        "unit_price": Decimal("9.80"),
        "matched_on": dt.date(2026, 11, 20),
        "due_on": dt.date(2026, 11, 30),
        "created_by": scene.clerk,
    }
    return Order.objects.create(**{**defaults, **values})


class TestOrders:
    def test_an_order_shows_its_deadline_and_light(self, scene: Scene) -> None:
        """R-10, R-48: working days left, and the light people see."""
        order = make_order(scene, scene.banks[0])
        assert client_of(scene.clerk).get(f"{ORDERS}/{order.pk}").json() == {
            "id": order.pk,
            "number": order.number,
            "bank": "BANK1",
            "supplier": "SUP1",
            "contract": "HT-1",
            "lot": 1,
            "card_kind": "finished",
            "quantity": 10,
            "unit_price": "9.80",
            "matched_on": "2026-11-20",
            "due_on": "2026-11-30",
            "due_is_provisional": False,
            "days_left": 5,
            "light": "green",
            "status": "open",
            "created_at": order.created_at.astimezone(dt.timezone(dt.timedelta(hours=8))).isoformat(),
            "completed_at": None,
        }

    def test_each_sees_its_own(self, scene: Scene) -> None:
        orders = [make_order(scene, bank, lot) for lot, bank in enumerate(scene.banks)]
        planner = make_user("planner", scene.suppliers[1], Role.SUPPLIER_PLANNER)
        assert ids(client_of(scene.clerk).get(ORDERS)) == [orders[1].pk, orders[0].pk]
        assert ids(client_of(scene.bank_clerks[0]).get(ORDERS)) == [orders[0].pk]
        assert ids(client_of(planner).get(ORDERS)) == [orders[1].pk]
        for user in (scene.bank_clerks[0], planner):
            hidden = orders[1] if user is scene.bank_clerks[0] else orders[0]
            assert code_of(client_of(user).get(f"{ORDERS}/{hidden.pk}"), 404) == "not_found"

    def test_a_role_without_orders_is_refused(self, scene: Scene) -> None:
        admin = make_user("admin", scene.purchaser, Role.SYSTEM_ADMINISTRATOR)
        body = problem(client_of(admin).get(ORDERS), 403)
        assert (body["code"], body["expected"]) == ("permission_refused", "orders.view_order")

    def test_a_status_is_filtered(self, scene: Scene) -> None:
        make_order(scene, scene.banks[0])
        done = make_order(scene, scene.banks[0], status="completed")
        assert ids(client_of(scene.clerk).get(ORDERS, {"status": "completed"})) == [done.pk]

    def test_a_page_costs_the_same_whatever_its_length(
        self, scene: Scene, django_assert_max_num_queries: Any
    ) -> None:
        client = client_of(scene.clerk)
        for _ in range(12):
            make_order(scene, scene.banks[0])
        client.get(ORDERS)
        with django_assert_max_num_queries(4):
            client.get(ORDERS)

    def test_nothing_can_be_written(self, scene: Scene) -> None:
        order = make_order(scene, scene.banks[0])
        client = client_of(scene.clerk)
        for method in ("post", "put", "patch", "delete"):
            assert code_of(getattr(client, method)(f"{ORDERS}/{order.pk}"), 405) == "method_not_allowed"


def send(client: APIClient, content: bytes, name: str = "a.csv", **headers: Any) -> Any:
    file = SimpleUploadedFile(name, content, "text/csv")
    return client.post(FILES, {"file": file}, format="multipart", **headers)


def rows(*serials: int) -> bytes:
    return csv_file([person(serial).row() for serial in serials]).getvalue()


class TestAccountFiles:
    def test_a_bank_uploads_looks_and_loads(self, scene: Scene) -> None:
        """R-8, R-9: dry run first, loading when the bank says so."""
        client = client_of(scene.bank_clerks[0])
        created = send(client, rows(1, 2)[:-2] + "\r\n12,甲,1\r\n".encode())
        assert (created.status_code, created.json()["status"]) == (201, "received")
        run_task(Task.objects.get().pk)
        url = f"{FILES}/{created.json()['id']}"
        shown = client.get(url).json()
        assert (shown["status"], shown["row_count"], shown["good_count"], shown["refused_count"]) == (
            ("checked", 3, 2, 1)
        )
        assert shown["problems"]
        assert client.post(f"{url}/load").status_code == 202
        assert actions()[-1] == "account_file.load_requested"

    def test_the_content_never_lies_on_a_disk_in_the_clear(
        self, scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-45: account files hold people's accounts, whatever their size."""
        settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10
        monkeypatch.setattr(TemporaryFileUploadHandler, "new_file", lambda *_: pytest.fail("was written"))
        monkeypatch.setattr("tempfile.NamedTemporaryFile", _only_in(settings.FILES_DIR))
        assert send(client_of(scene.bank_clerks[0]), rows(*range(50))).status_code == 201

    def test_the_findings_are_for_the_bank_itself(self, scene: Scene) -> None:
        client = client_of(scene.bank_clerks[0])
        pk = send(client, "证件号码,户名,账号\r\n12,甲,1\r\n".encode()).json()["id"]
        run_task(Task.objects.get().pk)
        answer = client.get(f"{FILES}/{pk}/problems")
        sheet = load_workbook(BytesIO(b"".join(answer.streaming_content))).active
        assert sheet is not None
        assert "问题清单" in str(sheet["A1"].value)
        purchaser = client_of(scene.clerk)
        assert purchaser.get(f"{FILES}/{pk}").status_code == 200
        before = actions()
        assert code_of(purchaser.get(f"{FILES}/{pk}/problems"), 403) == "permission_refused"
        assert actions() == [*before, "access.refused"]

    def test_another_banks_files_do_not_exist(self, scene: Scene) -> None:
        pk = send(client_of(scene.bank_clerks[0]), rows(1)).json()["id"]
        stranger = client_of(scene.bank_clerks[1])
        before = actions()
        assert ids(stranger.get(FILES)) == []
        for method, path in (("get", ""), ("get", "/problems"), ("post", "/load")):
            assert code_of(getattr(stranger, method)(f"{FILES}/{pk}{path}"), 404) == "not_found"
        assert actions() == before
        assert AccountFile.objects.get().status == "received"

    @pytest.mark.parametrize(
        ("content", "status", "code"),
        [(b"", 400, "invalid"), (None, 409, "account_file_replay")],
    )
    def test_a_file_that_is_not_taken(
        self, scene: Scene, content: bytes | None, status: int, code: str
    ) -> None:
        client = client_of(scene.bank_clerks[0])
        send(client, rows(1))
        assert code_of(send(client, rows(1) if content is None else content), status) == code
        assert AccountFile.objects.count() == 1

    def test_too_large(self, scene: Scene, settings: Any) -> None:
        settings.MAX_ACCOUNT_FILE_BYTES = 50
        client = client_of(scene.bank_clerks[0])
        assert code_of(send(client, bytes(51)), 422) == "account_file_too_large"
        assert code_of(send(client, bytes(70_000)), 422) == "request_too_large"
        assert not AccountFile.objects.exists()

    def test_loading_too_early_is_a_conflict_that_a_key_repeats(self, scene: Scene) -> None:
        client = client_of(scene.bank_clerks[0])
        pk = send(client, rows(1)).json()["id"]
        before = actions()
        first, second = (client.post(f"{FILES}/{pk}/load", HTTP_IDEMPOTENCY_KEY="k") for _ in range(2))
        assert code_of(first, 409) == code_of(second, 409) == "transition_refused"
        assert actions() == before

    def test_the_purchaser_uploads_none(self, scene: Scene) -> None:
        assert code_of(send(client_of(scene.clerk), rows(1)), 403) == "permission_refused"
        assert not AccountFile.objects.exists()


def _only_in(folder: Any) -> Any:
    import tempfile

    original = tempfile.NamedTemporaryFile

    def checked(*given: Any, **named: Any) -> Any:
        assert str(named.get("dir", "")).startswith(str(folder)), "a temporary file outside the sealed spool"
        return original(*given, **named)

    return checked

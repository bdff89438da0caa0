"""Packages through the API: received once, refused with a reason, seen by those they concern (R-8, R-46)."""

from __future__ import annotations

import os
import threading
from io import BytesIO
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from openpyxl import load_workbook
from rest_framework.test import APIClient

from orders.models import Package
from orders.services.upkeep import advance_packages
from portal.apikit import uploads
from portal.choices import Role
from portal.models import IdempotencyKey, Task, User
from portal.uploads import UnnamedFileUploadHandler
from tests.api import ROOT, actions, client_of, code_of, ids, problem
from tests.orders.intake.world import World, make_world, run_tasks
from tests.orders.scene import make_organisation, make_user

URL = f"{ROOT}/packages"


@pytest.fixture
def world(db: None) -> World:
    return make_world()


def file_of(content: bytes, name: str = "p.sealed") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, "application/octet-stream")


def send(client: APIClient, content: bytes, key: str | None = None, name: str = "p.sealed") -> Any:
    headers = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
    return client.post(URL, {"file": file_of(content, name)}, format="multipart", **headers)


def kept() -> tuple[list[str], list[str]]:
    """Return what a refused request must leave as it was."""
    return actions(), list(Package.objects.values_list("number", flat=True))


class TestUpload:
    def test_a_sealed_package_is_received_and_checked_in_the_background(self, world: World) -> None:
        answer = send(client_of(world.clerk), world.container(3, fault_rate=0.0))
        assert answer.status_code == 201
        body = answer.json()
        assert (body["number"], body["sender"], body["status"]) == ("P-1", "PROVINCE", "received")
        assert [task.handler for task in Task.objects.all()] == ["orders.jobs.open_package"]
        run_tasks()
        advance_packages()
        shown = client_of(world.clerk).get(f"{URL}/{body['id']}").json()
        counts = {name: shown[name] for name in ("record_count", "accepted_count", "returned_count")}
        assert counts == {"record_count": 3, "accepted_count": 3, "returned_count": 0}
        assert (shown["status"], shown["checked_count"], shown["problems"]) == ("validated", 3, {})

    def test_the_provinces_own_system_sends_and_sees_its_packages_only(self, world: World) -> None:
        system = make_user("province-system", world.province, Role.CARD_SYSTEM)
        own = send(client_of(system), world.container()).json()["id"]
        other = Package.objects.create(number="X", file_name="x", received_by=world.clerk, status="refused")
        assert ids(client_of(system).get(URL)) == [own]
        assert code_of(client_of(system).get(f"{URL}/{other.pk}"), 404) == "not_found"
        assert ids(client_of(world.clerk).get(URL)) == [other.pk, own]

    def test_a_refused_package_is_answered_with_its_code_and_kept_as_an_event(self, world: World) -> None:
        content = bytearray(world.container())
        content[len(content) // 2] ^= 1
        body = problem(send(client_of(world.clerk), bytes(content)), 422)
        row = Package.objects.get()
        assert (row.status, row.refusal_code) == ("refused", body["code"])
        assert body["title"] in row.refusal_text
        assert actions()[-1:] == ["package.refused"]
        assert not Task.objects.exists()
        shown = client_of(world.clerk).get(f"{URL}/{row.pk}").json()
        assert (shown["refusal_code"], shown["refusal_text"]) == (row.refusal_code, row.refusal_text)

    def test_a_replay_without_a_key_is_refused(self, world: World) -> None:
        """R-46: the same package is taken in once."""
        client, content = client_of(world.clerk), world.container()
        assert send(client, content).status_code == 201
        assert code_of(send(client, content), 422) == "replayed"

    @pytest.mark.parametrize("role", [Role.PURCHASER_APPROVER, Role.BANK_CLERK, Role.SUPPLIER_PLANNER])
    def test_roles_that_may_not_send_are_refused_and_nothing_is_kept(self, world: World, role: Role) -> None:
        kinds = {Role.BANK_CLERK: "bank", Role.SUPPLIER_PLANNER: "supplier"}
        user = make_user("other", make_organisation(kinds.get(role, "purchaser"), "OTHER"), role)
        client = client_of(user)
        entries, *before = kept()
        assert code_of(send(client, world.container(), key="k"), 403) == "permission_refused"
        assert kept() == ([*entries, "access.refused"], *before)
        assert not IdempotencyKey.objects.exists()

    def test_too_many_bytes_are_refused_before_they_are_read(
        self, world: World, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.MAX_PACKAGE_BYTES = 1000
        monkeypatch.setattr(UnnamedFileUploadHandler, "new_file", lambda *_: pytest.fail("was read"))
        body = problem(send(client_of(world.clerk), bytes(uploads.MULTIPART_OVERHEAD + 1001)), 422)
        assert (body["code"], body["expected"]) == ("request_too_large", "不超过 1000 字节")

    def test_an_upload_lies_in_a_file_without_a_name_while_it_is_read(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-45: what a killed process leaves is freed with it."""
        seen: list[int] = []
        original = UnnamedFileUploadHandler.file_complete

        def noted(self: Any, size: int) -> Any:
            seen.append(os.fstat(self._spool.fileno()).st_nlink)
            return original(self, size)

        monkeypatch.setattr(UnnamedFileUploadHandler, "file_complete", noted)
        send(client_of(world.clerk), world.container())
        assert seen == [0]

    def test_a_request_without_a_file_names_the_field(self, world: World) -> None:
        client = client_of(world.clerk)
        for fields in ({}, {"file": "text"}, {"other": file_of(b"x")}):
            body = problem(client.post(URL, fields, format="multipart"), 400)
            assert (body["code"], body["errors"][0]["field"]) == ("invalid", "file")
        assert code_of(client.post(URL, {"file": "x"}, format="json"), 415) == "unsupported_media_type"

    def test_a_hostile_file_name_is_only_a_name(self, world: World) -> None:
        body = send(client_of(world.clerk), world.container(), name="../../etc/passwd\x00.sealed").json()
        assert "/" not in body["file_name"]


class TestIdempotency:
    def test_the_same_key_and_body_give_the_same_answer(self, world: World) -> None:
        client, content = client_of(world.clerk), world.container()
        first, second = send(client, content, "k-1"), send(client, content, "k-1")
        assert (first.status_code, second.status_code) == (201, 201)
        assert first.json() == second.json()
        assert ("Idempotency-Replayed" in first, second["Idempotency-Replayed"]) == (False, "true")
        assert Package.objects.count() == 1
        assert actions().count("package.received") == 1

    def test_a_refusal_is_repeated_too(self, world: World) -> None:
        client = client_of(world.clerk)
        first, second = send(client, b"no zip", "k-1"), send(client, b"no zip", "k-1")
        assert problem(first, 422) == problem(second, 422)
        assert Package.objects.count() == 1

    def test_another_body_under_the_key_is_refused(self, world: World) -> None:
        client = client_of(world.clerk)
        send(client, world.container(number="P-1"), "k-1")
        before = kept()
        assert code_of(send(client, world.container(number="P-2"), "k-1"), 422) == "idempotency_key_reused"
        assert kept() == before

    def test_keys_of_two_users_do_not_meet(self, world: World) -> None:
        colleague = User.objects.create(
            username="colleague", organisation=world.purchaser, roles=[Role.PURCHASER_CLERK]
        )
        send(client_of(world.clerk), world.container(number="P-1"), "k")
        assert send(client_of(colleague), world.container(number="P-2"), "k").status_code == 201

    @pytest.mark.parametrize("key", ["", " ", "a b", "ü", "x" * 101])
    def test_a_key_of_another_form_is_refused(self, world: World, key: str) -> None:
        answer = send(client_of(world.clerk), world.container(), key)
        assert code_of(answer, 422) == "idempotency_key_invalid"
        assert not Package.objects.exists()

    def test_an_expired_key_counts_no_more_and_is_cleared(self, world: World) -> None:
        client, content = client_of(world.clerk), world.container()
        send(client, content, "k-1")
        IdempotencyKey.objects.update(expires_at="2026-01-01T00:00:00Z")
        assert code_of(send(client, content, "k-1"), 422) == "replayed"
        assert IdempotencyKey.objects.count() == 1

    def test_an_unexpected_error_keeps_neither_key_nor_effect(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_given: Any, **_named: Any) -> None:
            raise RuntimeError("broken")

        client, content = client_of(world.clerk), world.container()
        with monkeypatch.context() as patched:
            patched.setattr("orders.api.views.PackageSerializer.to_representation", broken)
            with pytest.raises(RuntimeError):
                send(client, content, "k-1")
        assert (IdempotencyKey.objects.count(), Package.objects.count()) == (0, 0)
        assert send(client, content, "k-1").status_code == 201

    @pytest.mark.django_db(transaction=True)
    def test_two_requests_at_once_take_the_package_in_once(self, redis_server: Any) -> None:
        world = make_world()
        content, clients = world.container(), [client_of(world.clerk) for _ in range(2)]
        together, answers = threading.Barrier(2), []

        def go(client: APIClient) -> None:
            together.wait(10)
            answers.append(send(client, content, "k-1"))
            connection.close()

        threads = [threading.Thread(target=go, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        assert sorted("Idempotency-Replayed" in answer for answer in answers) == [False, True]
        assert Package.objects.count() == 1


class TestReturnList:
    def test_the_list_names_row_field_expected_and_got(self, world: World) -> None:
        """R-9: the sender can correct what came back; taking the list is an event."""
        package = world.take_in(40, fault_rate=0.5)
        advance_packages()
        answer = client_of(world.clerk).get(f"{URL}/{package.pk}/returns")
        assert answer["Cache-Control"] == "no-store, private"
        assert answer["Content-Disposition"].startswith("attachment")
        sheet = load_workbook(BytesIO(b"".join(answer.streaming_content))).active
        assert sheet is not None
        assert "退回清单" in str(sheet["A1"].value)
        assert actions()[-1] == "package.returns_exported"

    def test_who_may_not_export_gets_no_byte_of_it(self, world: World) -> None:
        package = world.take_in(3)
        system = make_user("province-system", world.province, Role.CARD_SYSTEM)
        client = client_of(system)
        before = actions()
        assert code_of(client.get(f"{URL}/{package.pk}/returns"), 403) == "permission_refused"
        assert actions() == [*before, "access.refused"]

"""The commands of the key store: nothing secret among their arguments, two people at the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from portal import files
from portal.core.crypto import kcv
from portal.core.key_wrapping import load_wrapper
from portal.core.keystore import ForeignKekError, KeyPurpose, KeyStore
from portal.files import keystore
from portal.models import AuditEntry, KeyImport, Organisation, User
from tests.core.key_tokens import TOKENS, soft_hsm
from tests.portal.door import PASSWORD, with_password
from tests.portal.key_desk import FIRST, MASTER, NAME, SECOND, begun, two_people
from tests.refusals import actions
from tests.second_factor import Authenticator, enrolled

pytestmark = pytest.mark.django_db
OLD = "8d0ad8f0cd3fd8e9b7a1d4356a9c2e71"


@pytest.fixture(autouse=True)
def fresh_stores() -> Iterator[None]:
    """Open the key store anew whenever the settings name another KEK."""
    yield
    files._keystore.cache_clear()


class Terminal:
    """What people type: names openly, everything else without being shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.hidden: list[str] = []
        self.prompts: list[str] = []
        monkeypatch.setattr("builtins.input", self._name)
        monkeypatch.setattr("portal.management.commands.import_key.getpass", self._hidden)

    def sits_down(self, user: User, phone: Authenticator, secret: bytes) -> None:
        """Let a person come with password, telephone and component."""
        self.names.append(user.username)
        self.hidden += [PASSWORD, phone.code(), secret.hex(), kcv(secret)]

    def _name(self, prompt: str) -> str:
        return self.names.pop(0)

    def _hidden(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self.hidden.pop(0)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch)


@pytest.fixture
def people(gov: Organisation, cheap_hashes: None) -> list[tuple[User, Authenticator]]:
    return [(with_password(user), enrolled(user)) for user in two_people(gov)]


def run(name: str, *arguments: Any, **options: Any) -> str:
    said = StringIO()
    call_command(name, *arguments, **options, stdout=said)
    return said.getvalue()


def import_key(**options: Any) -> str:
    return run("import_key", NAME, 1, **{"check_value": kcv(MASTER)} | options)


class TestImport:
    def test_two_people_at_one_terminal(
        self, terminal: Terminal, people: list[tuple[User, Authenticator]]
    ) -> None:
        terminal.sits_down(*people[0], FIRST)
        terminal.sits_down(*people[1], SECOND)
        said = import_key()
        assert keystore().master_key(NAME) == MASTER
        row = KeyImport.objects.get()
        assert (row.status, row.first_by, row.second_by) == ("imported", people[0][0], people[1][0])
        assert f"校验值 {kcv(MASTER)}" in said
        for secret in (FIRST, SECOND, MASTER):
            assert secret.hex() not in said
        assert terminal.prompts == [
            "密码：", "动态口令：", "分量一：", "分量一校验值：",
            "密码：", "动态口令：", "分量二：", "分量二校验值：",
        ]  # fmt: skip

    def test_the_second_person_comes_another_time(
        self, terminal: Terminal, people: list[tuple[User, Authenticator]]
    ) -> None:
        terminal.sits_down(*people[0], FIRST)
        terminal.names.append("")
        import_key()
        assert KeyImport.objects.get().status == "waiting"
        terminal.sits_down(*people[1], SECOND)
        import_key(check_value=None)
        assert KeyImport.objects.get().status == "imported"

    def test_the_same_person_is_refused(
        self, terminal: Terminal, people: list[tuple[User, Authenticator]]
    ) -> None:
        """Architecture §3: also in the command."""
        row = begun(people[0][0])
        terminal.sits_down(*people[0], SECOND)
        with pytest.raises(CommandError, match="须由另一人办理"):
            import_key()
        row.refresh_from_db()
        assert (row.status, keystore().masters()) == ("waiting", [])
        assert actions()[-1] == "second_person.refused"

    def test_a_wrong_password_or_code_ends_it(
        self, terminal: Terminal, people: list[tuple[User, Authenticator]]
    ) -> None:
        terminal.names += ["security1", "security1"]
        terminal.hidden += ["not the password", PASSWORD, "000000"]
        for message in ("用户名或密码不正确", "动态口令"):
            with pytest.raises(CommandError, match=message):
                import_key()
        assert KeyImport.objects.count() == 0
        assert terminal.hidden == []

    def test_a_person_without_second_factor_signs_in_on_the_page_first(
        self, terminal: Terminal, gov: Organisation, cheap_hashes: None, settings: Any
    ) -> None:
        settings.TOTP_REQUIRED = True
        with_password(two_people(gov)[0])
        terminal.names.append("security1")
        terminal.hidden.append(PASSWORD)
        with pytest.raises(CommandError, match="先在网页上完成登录"):
            import_key()
        assert KeyImport.objects.count() == 0

    def test_a_ceremony_is_cancelled(
        self, terminal: Terminal, people: list[tuple[User, Authenticator]]
    ) -> None:
        row = begun(people[0][0])
        terminal.names.append("security2")
        terminal.hidden += [PASSWORD, people[1][1].code()]
        assert "分量一已销毁" in import_key(cancel=True)
        row.refresh_from_db()
        assert row.status == "cancelled"
        with pytest.raises(CommandError, match="没有正在等待的导入"):
            import_key(cancel=True)

    def test_the_check_value_is_asked_of_the_first(self) -> None:
        with pytest.raises(CommandError, match="--check-value"):
            import_key(check_value=None)

    def test_no_argument_takes_a_secret(self) -> None:
        """Arguments stand in the list of processes and in the shell's history."""
        for argument in ("--component", "--password", "--pin"):
            with pytest.raises(CommandError):
                call_command("import_key", NAME, "1", argument, "x")


class TestKek:
    def test_a_kek_is_made_where_the_settings_say(self, tmp_path: Path, settings: Any) -> None:
        settings.KEK = str(tmp_path / "kek")
        said = run("init_kek")
        assert load_wrapper(settings.KEK).check_value in said
        settings.KEK_NEXT = str(tmp_path / "next")
        run("init_kek")
        assert (tmp_path / "next").stat().st_mode & 0o777 == 0o600
        for place in ("", str(tmp_path / "kek"), OLD):
            with pytest.raises(CommandError) as refusal:
                run("init_kek", place or str(tmp_path / "next"))
            assert OLD not in str(refusal.value)

    def test_a_file_gives_way_to_a_token(self, tmp_path: Path, settings: Any) -> None:
        """Issue 3: the whole way from a file to a non-extractable key, and running processes go on."""
        settings.KEK = str(tmp_path / "kek")
        run("init_kek")
        old = load_wrapper(settings.KEK).check_value
        key_id = keystore().create(KeyPurpose.PACKAGE, "P-1")
        key = keystore().key(key_id)
        settings.KEK_NEXT = soft_hsm().uri("from-file", TOKENS[1])
        run("init_kek")
        new = load_wrapper(settings.KEK_NEXT).check_value
        running = keystore()

        said = run("rotate_kek")

        assert f"{old} → {new}" in said
        assert (running.key(key_id), keystore().kek_check_value) == (key, new)
        entry = AuditEntry.objects.latest("position")
        assert (entry.action, entry.result) == ("kek.rotated", "done")
        assert entry.details == {"before": old, "after": new, "keys": keystore().count()}
        settings.KEK, settings.KEK_NEXT = settings.KEK_NEXT, ""
        assert keystore().key(key_id) == key
        settings.KEK = str(tmp_path / "kek")
        files._keystore.cache_clear()
        with pytest.raises(ForeignKekError):
            keystore()

    def test_a_change_needs_everybody_prepared_or_nobody_there(self, tmp_path: Path, settings: Any) -> None:
        new = str(tmp_path / "new")
        run("init_kek", new)
        key_id = keystore().create(KeyPurpose.PACKAGE, "P-1")
        before = keystore().kek_check_value
        entries = actions()
        with pytest.raises(CommandError, match="PORTAL_KEK_NEXT"):
            run("rotate_kek")
        with pytest.raises(CommandError, match="--alone"):
            run("rotate_kek", to=new)
        with pytest.raises(CommandError, match="密钥本身") as refusal:
            run("rotate_kek", to=OLD, alone=True)
        assert OLD not in str(refusal.value)
        settings.KEK_NEXT = str(tmp_path / "other")
        with pytest.raises(CommandError, match="不同"):
            run("rotate_kek", to=new)
        settings.KEK_NEXT = ""
        assert (keystore().kek_check_value, actions()) == (before, entries)
        run("rotate_kek", to=new, alone=True)
        settings.KEK = new
        assert keystore().exists(key_id)
        with pytest.raises(CommandError, match="已在这个主控密钥"):
            run("rotate_kek", to=new, alone=True)

    def test_a_kek_of_another_store_is_refused(self, settings: Any) -> None:
        keystore().create(KeyPurpose.PACKAGE, "P-1")
        settings.KEK = OLD
        with pytest.raises(CommandError, match="另一个主控密钥"):
            run("key_status")


def test_the_status_shows_check_values_only(keystore_dir: Path) -> None:
    keystore().import_components(NAME, 1, FIRST, SECOND, kcv(MASTER), valid_until=timezone.localdate())
    keystore().generate_test_masters(["SSSE-BK"])
    said = run("key_status")
    assert f"{NAME} v1  {kcv(MASTER)}  … 至 {timezone.localdate()}  有效" in said
    assert "测试密钥" in said
    assert keystore().kek_check_value in said
    assert MASTER.hex() not in said.lower()


def test_the_store_opens_with_a_token_in_the_settings(settings: Any) -> None:
    settings.KEK = soft_hsm().uri("portal-kek")
    run("init_kek")
    key_id = keystore().create(KeyPurpose.PACKAGE, "P-1")
    sealed = files.cipher(key_id).seal(b"x", b"c")
    files._keystore.cache_clear()
    assert files.cipher(key_id).open(sealed, b"c") == b"x"
    assert isinstance(keystore(), KeyStore)

"""The commands around intake: exit codes and words a person understands (R-8)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from orders.choices import PackageStatus
from orders.models import Package, SenderKey
from portal import files
from portal.models import Task
from tests.orders.intake.world import World, run_tasks


def file_with(folder: Path, content: bytes, name: str = "p.sealed", age: float = 60) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


class TestIntake:
    def test_a_good_package_is_checked_and_counted(
        self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("intake", str(file_with(tmp_path, world.container(4))))
        assert capsys.readouterr().out == "p.sealed：P-1 已校验：4 条记录，接受 4，退回 0\n"
        assert Package.objects.get().status == PackageStatus.VALIDATED

    def test_one_bad_file_does_not_stop_the_others(
        self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = file_with(tmp_path, b"%PDF", "a.pdf")
        good = file_with(tmp_path, world.container(2), "b.sealed")
        with pytest.raises(CommandError) as caught:
            call_command("intake", str(bad), str(good))
        assert caught.value.returncode == 1
        shown = capsys.readouterr()
        assert "a.pdf：拒收（not_a_container）" in shown.err
        assert "b.sealed：P-1 已校验" in shown.out

    def test_the_workers_may_do_the_rest(
        self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("intake", str(file_with(tmp_path, world.container(2))), queue=True)
        assert capsys.readouterr().out == "p.sealed：P-1 已接收\n"
        assert Task.objects.get().status == "queued"

    @pytest.mark.parametrize("arguments", [[], ["/nowhere/p.sealed"]])
    def test_nothing_to_read(self, world: World, arguments: list[str]) -> None:
        with pytest.raises(CommandError) as caught:
            call_command("intake", *arguments)
        assert caught.value.returncode == 2


class TestWatchedFolder:
    def test_whole_files_are_taken_in_oldest_first_and_cleared_away(self, world: World) -> None:
        """R-22: the received file is removed, for it holds the wrapped key; a refused one is put aside."""
        folder = Path(settings.INTAKE_DIR)
        file_with(folder, world.container(1, number="P-2", start=7), "a.sealed", age=50)
        file_with(folder, world.container(1, number="P-1"), "b.sealed", age=90)
        file_with(folder, b"junk", "c.sealed")
        file_with(folder, world.container(1, number="P-3", start=9), "young.sealed", age=0)
        file_with(folder, b"half", "d.sealed.part")
        file_with(folder, b"half", ".hidden")
        (folder / "link.sealed").symlink_to("/etc/hostname")
        call_command("intake", watched=True)
        received = Package.objects.order_by("pk").values_list("file_name", "status")
        assert list(received) == [("b.sealed", "received"), ("c.sealed", "refused"), ("a.sealed", "received")]
        left = sorted(path.name for path in folder.iterdir())
        assert left == [".hidden", "d.sealed.part", "link.sealed", "refused", "young.sealed"]
        assert [path.name.partition("-")[2] for path in (folder / "refused").iterdir()] == ["c.sealed"]

    def test_an_absent_folder_is_made(self, world: World) -> None:
        call_command("intake", watched=True)
        assert Path(settings.INTAKE_DIR).stat().st_mode & 0o777 == 0o700


class TestMakeSample:
    def test_what_it_writes_is_taken_in(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "sample.sealed"
        call_command("make_sample", str(path), records=20, fault_rate=0.1, number="S-1")
        call_command("intake", str(path))
        package = Package.objects.get()
        assert (package.number, package.record_count, package.returned_count) == ("S-1", 20, 2)
        call_command(
            "make_sample", str(path), records=5, start=20, fault_rate=0, encoding="gb18030", number="S-2"
        )
        call_command("intake", str(path))
        assert Package.objects.get(number="S-2").accepted_count == 5
        assert SenderKey.objects.filter(organisation__code="SAMPLE-PROVINCE").count() == 1

    @pytest.mark.parametrize("options", [{"records": -1}, {"fault_rate": 1.5}])
    def test_impossible_wishes(self, world: World, tmp_path: Path, options: dict[str, Any]) -> None:
        with pytest.raises(CommandError) as caught:
            call_command("make_sample", str(tmp_path / "x"), **options)
        assert caught.value.returncode == 2

    def test_production_gets_nothing_invented(self, world: World, tmp_path: Path, settings: Any) -> None:
        settings.PRODUCTION = True
        with pytest.raises(CommandError):
            call_command("make_sample", str(tmp_path / "x"))
        assert not (tmp_path / "x").exists()


class TestSeal:
    def test_a_folder_sealed_by_the_script_is_taken_in(self, world: World, tmp_path: Path) -> None:
        """R-8: what senders run is what we read."""
        from portal.samples.hostile import honest_members

        folder = tmp_path / "in"
        for name, content in honest_members(head=world.head("S-1")).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        key, portal = tmp_path / "sender.pem", tmp_path / "portal.pub"
        key.touch(mode=0o600)
        key.write_text(world.sender_key.to_pem())
        portal.write_text(files.portal_key().public.to_pem())
        out = tmp_path / "out.sealed"
        call_command(
            "seal", "--", "--sender", "PROVINCE", "--sender-key", key, "--recipient", settings.PORTAL_CODE,
            "--recipient-key", portal, "--number", "S-1", "--in", folder, "--out", out,
        )  # fmt: skip
        # Sealed in this second, while keys and clocks agree to the second only.
        package = world.receive(out.read_bytes())
        run_tasks()
        package.refresh_from_db()
        assert (package.status, package.accepted_count) == (PackageStatus.VALIDATED, 3)

    def test_its_exit_codes_are_the_scripts(self) -> None:
        command = [sys.executable, "manage.py", "seal", "--sender", "X"]
        done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "缺少参数" in done.stderr

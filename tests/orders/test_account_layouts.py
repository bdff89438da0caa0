"""Which column of a bank's account file holds what (R-5, R-9)."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from orders import personal
from orders.account_rows import LayoutRefusedError
from orders.choices import RecordStatus
from orders.models import BankProfile, CardholderRecord
from orders.services.accounts import (
    set_account_layout,
)
from orders.services.matching import match_bank
from portal.models import AuditEntry
from portal.samples.accounts import AccountFault, write_account_files
from portal.samples.banks import BANKS
from portal.samples.layouts import LAYOUTS
from portal.samples.people import people
from tests.orders.account_desk import current, loaded
from tests.orders.scene import (
    TODAY,
    Person,
    Scene,
    make_bank,
    make_user,
    person,
)


class TestLayout:
    def test_a_saved_mapping_finds_columns_nobody_would_recognise(self, scene: Scene) -> None:
        """R-9: 18 banks, 18 layouts."""
        profile = BankProfile.objects.get(organisation=scene.banks[0])
        mapping = {
            "header_row": 1,
            "columns": {"number": "甲", "name": "乙", "account": "丙"},
            "encoding": "gb18030",
        }
        set_account_layout(profile, mapping, actor=scene.bank_clerks[0])
        rows = f"开户清单\n丙,甲,乙,卡号\n{person(1).account},{person(1).number},{person(1).name},9"
        loaded(scene, io.BytesIO(rows.encode("gb18030")))
        assert current(scene.banks[0]) == {person(1).number: person(1).account}
        assert AuditEntry.objects.get(action="bankprofile.layout_set").details["after"] == mapping

    @pytest.mark.parametrize(
        "mapping",
        [
            {"columns": {"number": "甲", "name": "乙"}},
            {"columns": {"number": "甲", "name": "乙", "account": " 甲"}},
            {"columns": {"number": "甲", "name": "乙", "account": ""}},
            {"columns": {"number": "甲", "name": "乙", "account": "长" * 61}},
            {"columns": {"number": "甲", "name": "乙", "account": 3}},
            {"columns": ["甲", "乙", "丙"]},
            {"header_row": 1},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "header_row": -1},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "header_row": True},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "encoding": "utf-16"},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "sheet": 1},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "other": 1},
        ],
    )
    def test_a_mapping_that_makes_no_sense_is_refused(self, scene: Scene, mapping: dict[str, object]) -> None:
        profile = BankProfile.objects.get(organisation=scene.banks[0])
        with pytest.raises(LayoutRefusedError):
            set_account_layout(profile, mapping, actor=scene.bank_clerks[0])
        profile.refresh_from_db()
        assert profile.account_layout == {}

    def test_the_18_layouts_are_recognised_and_every_slip_gets_its_reason(
        self, scene: Scene, tmp_path: Path
    ) -> None:
        """R-5, R-9: the sample files of all banks, with and without a saved mapping."""
        everyone = list(people(700, 7, BANKS, issue_date=TODAY))
        reports = write_account_files(tmp_path, everyone, seed=7)
        for place, (code, report) in enumerate(reports.items()):
            bank = make_bank(code)
            scene.banks.append(bank)
            scene.bank_clerks.append(make_user(f"c-{code}", bank, "bank_clerk"))
            mine = [Person(each.number, each.name, "") for each in everyone if each.bank_code == code]
            scene.add_records(mine, bank)
            if place % 2:
                layout = LAYOUTS[code]
                mapping = {"columns": layout.mapping, "header_row": layout.header_row}
                profile = BankProfile.objects.get(organisation=bank)
                set_account_layout(profile, mapping, actor=scene.bank_clerks[-1])
            account_file = loaded(scene, io.BytesIO(report.path.read_bytes()), bank=len(scene.banks) - 1)
            assert (account_file.status, account_file.refusal_text) == ("loaded", "")
            assert account_file.row_count == report.row_count
        for bank in scene.banks:
            match_bank(bank, actor=scene.clerk)
        slips = {
            personal.number_index(each.number): each.fault.reason
            for report in reports.values()
            for each in report.bad
            if each.fault is not AccountFault.STRANGER
        }
        waiting = CardholderRecord.objects.filter(status=RecordStatus.ACCEPTED)
        found = {bytes(each.number_index): each.unmatched_reason for each in waiting}
        assert found == slips
        assert len(found) == 14
        assert CardholderRecord.objects.filter(status=RecordStatus.MATCHED).count() == 686

"""The hopper of the virtual reader, and the one behind vpcd: what their options say, and nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from production.personalization.blank import chip_serial
from stations.agent.feeder import VirtualFeeder
from stations.agent.options import IncompleteError, read_options
from stations.transport.base import HopperEmptyError
from stations.virtual.hopper import HopperSlot
from stations.virtual.program import main
from stations.virtual.samples import sample_card
from stations.virtual.vpcd import POWER_OFF, POWER_ON

SERIALS = ("FS26A0000000001", "FS26A0000000002", "FS26A0000000003")


def test_the_hopper_of_the_virtual_reader_runs_out() -> None:
    """Issue 4: as many blanks as were put in; one that was there comes back without being a new one."""
    feeder = VirtualFeeder(2)
    assert [feeder.feed(serial) for serial in SERIALS[:2]] == [True, True]
    with pytest.raises(HopperEmptyError):
        feeder.feed(SERIALS[2])
    assert feeder.feed(SERIALS[0])
    assert feeder.connect().endswith(chip_serial(SERIALS[0]))


def test_without_a_number_it_never_runs_out() -> None:
    feeder = VirtualFeeder()
    assert all(feeder.feed(f"FS26A{number:010d}") for number in range(300))


def test_a_fault_belongs_to_one_blank() -> None:
    feeder = VirtualFeeder(0, [f"{SERIALS[1]}:status@1=6F00"])
    seen = []
    for serial in SERIALS:
        feeder.feed(serial)
        feeder.connect()
        seen.append(feeder.transport.transmit(bytes.fromhex("00840000 08")).sw)
    assert [sw == 0x6F00 for sw in seen] == [False, True, False]


@pytest.mark.parametrize("fault", ["FS26A:nonsense", "pulled@3", "", "X:pulled@0"])
def test_a_fault_that_is_none_stops_the_start(fault: str, tmp_path: Path) -> None:
    """It says what is wrong instead of making good cards."""
    credential = tmp_path / "credential"
    credential.touch(mode=0o600)
    credential.write_text("x")
    arguments = ["--code", "p", "--portal", "http://127.0.0.1:1", "--credential-file", str(credential)]
    with pytest.raises(IncompleteError) as refused:
        read_options(
            [*arguments, "--virtual", "--virtual-fault", fault], {"STATION_REDIS_URL": "redis://localhost"}
        )
    assert len(refused.value.lacking) == 1


@pytest.mark.parametrize("hopper", ["zz", "0102", ",", "0102030405060708:nonsense"])
def test_serials_that_are_none_are_refused(hopper: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--hopper", hopper])
    assert "--hopper" in capsys.readouterr().err


def test_a_card_that_got_no_command_stays_when_pcscd_rests() -> None:
    """pcscd powers a card down that nobody uses; only a used one makes way."""
    slot = HopperSlot([sample_card(), sample_card()])
    moved = threading.Event()
    slot._move = moved.set  # type: ignore[method-assign]
    for message in (POWER_ON, POWER_OFF):
        slot._answer(bytes((message,)))
    assert not moved.wait(0.1)
    slot._answer(bytes.fromhex("0084000008"))
    slot._answer(bytes((POWER_OFF,)))
    assert moved.wait(5)

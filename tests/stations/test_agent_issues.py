"""One card through real parts: portal, Redis, agent, pcscd, a card behind vpcd, ippeveprinter (R-14)."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageChops

from production.models import Card
from stations.agent.testcard import picture, pictures
from stations.choices import IssuanceStatus, PrintState, SelfTestKind
from stations.models import Issuance, SelfTest, Station
from stations.selectors import parts_of
from stations.services.card_jobs import face_of, front_of
from stations.services.desk import obstacles
from stations.services.issuance import confirm_look
from stations.services.printing import print_again
from stations.services.self_tests import request_self_test
from tests.stations.pcsc import CARD_READER, PSAM_READER, Desk
from tests.stations.printer import CardPrinter
from tests.stations.raster import face_up, pages_of
from tests.stations.shop import Shop, shop

__all__ = ["shop"]
Plug = Callable[..., Desk]
StartPrinter = Callable[..., CardPrinter]
READER = ("--reader", CARD_READER)


def assert_printed(printer: CardPrinter, *faces: bytes) -> None:
    """Compare the one job's pages with the faces, pixel by pixel: the layers of both sides agree (R-18)."""
    (printed,) = [path for path in printer.printed() if path.suffix == ".pwg"]
    front, back = pages_of(printed.read_bytes())
    laid = (front.image, back.image.transpose(Image.Transpose.ROTATE_180))
    assert printer.asked()["IPP_SIDES"] == "two-sided-long-edge"
    for page, face in zip(laid, faces, strict=True):
        with Image.open(io.BytesIO(face)) as drawn:
            assert (drawn.size, drawn.info["dpi"]) == ((1011, 638), (300, 300))
            assert ImageChops.difference(face_up(page), drawn.convert("RGB")).getbbox() is None


def test_one_card_from_the_operators_start_to_the_printed_face(
    shop: Shop, plug: Plug, card_printer: StartPrinter, record_property: Callable[[str, object], None]
) -> None:
    """R-14, R-24, R-25: written within two seconds, most of them the card's; every pixel of CR80 printed."""
    printer = card_printer()
    serial, chip = shop.blank()
    plug("--serial", chip)
    shop.start_agent(*READER, "--printer", printer.uri)
    shop.until(lambda: (Station.objects.get().report.get("printer") or {}).get("state") == "idle")
    report = Station.objects.get().report
    assert {"name": CARD_READER, "card": "present", "used": True} in report["readers"]
    assert report["printer"]["supplies"] == [{"name": "YMCKO", "level": 73}]
    issuance = shop.counter.start(serial=serial)
    issuance = shop.reaches(issuance, IssuanceStatus.AWAITING_LOOK)
    assert (issuance.print_state, issuance.is_written) == (PrintState.COMPLETED, True)
    parts = {part.label: part.milliseconds or 0 for part in parts_of(issuance)}
    total, reader = issuance.total_milliseconds or 0, issuance.reader_milliseconds or 0
    assert reader < total <= 2000
    assert issuance.round_trips == 4
    assert (issuance.portal_milliseconds or 0) < (issuance.waited_milliseconds or 0) < total
    written, read = issuance.write_milliseconds or 0, issuance.read_milliseconds or 0
    assert 0 < written + read <= reader  # powering the card up is the reader's too
    record_property("milliseconds", str(parts))

    assert_printed(printer, front_of(issuance), face_of(issuance))
    done = confirm_look(issuance, good=True, actor=shop.counter.operator)
    assert (done.status, Card.objects.get().outcome) == (IssuanceStatus.GOOD, "good")
    assert shop.counter.credential not in shop.log.read_text()


def test_a_card_at_a_real_cards_pace_spends_its_time_in_the_card(shop: Shop, plug: Plug) -> None:
    """R-24: portal, network and agent take at most 15 % when a command takes 20 ms, as real cards do."""
    serial, chip = shop.blank()
    plug("--serial", chip, "--fault", "slow=20")
    shop.start_agent(*READER, "--printer", "ipp://127.0.0.1:9/ipp/print")
    issuance = shop.reaches(shop.counter.start(serial=serial), IssuanceStatus.AWAITING_LOOK)
    total, reader = issuance.total_milliseconds or 0, issuance.reader_milliseconds or 0
    assert 0.85 * total <= reader < total < 50_000
    assert (issuance.agent_milliseconds or 0) <= 0.15 * reader


def test_cards_one_after_the_other_without_anybody(shop: Shop) -> None:
    """A feeder at the plant, or the demonstration: the right blank comes by itself."""
    shop.start_agent("--virtual")
    assert Station.objects.get().report["printer"]["name"] == "虚拟打印机"
    for _ in range(2):
        issuance = shop.reaches(shop.counter.start(), IssuanceStatus.AWAITING_LOOK)
        assert (issuance.print_state, issuance.reason) == (PrintState.COMPLETED, "")
        confirm_look(issuance, good=True, actor=shop.counter.operator)
    assert list(Card.objects.values_list("outcome", flat=True)) == ["good", "good"]


def test_a_test_card_is_read_with_a_psam_and_one_is_printed(
    shop: Shop, plug: Plug, card_printer: StartPrinter
) -> None:
    """R-24: EF05, EF06 and PSAM within three seconds."""
    printer = card_printer()
    plug("--issued", "--psam")
    shop.start_agent(*READER, "--psam-reader", PSAM_READER, "--printer", printer.uri)
    for kind in SelfTestKind:
        test = request_self_test(shop.counter.station, actor=shop.counter.operator, kind=kind)
        shop.until(lambda test=test: SelfTest.objects.get(pk=test.pk).reported_at is not None)
        test.refresh_from_db()
        assert (test.passed, test.error_code) == (True, "")
        assert kind == SelfTestKind.PRINT or (test.read_milliseconds or 0) <= 3000
    assert_printed(printer, *pictures(["front", "back"]))
    Station.objects.update(front_is_preprinted=True)
    shop.until(lambda: _print_test(shop) and printer.asked()["IPP_SIDES"] == "one-sided")
    (back,) = [path for path in printer.printed() if path.suffix == ".jpg"][-1:]
    assert back.read_bytes() == picture("back")


def _print_test(shop: Shop) -> bool:
    """Have one more test card printed and say whether it passed."""
    asked = request_self_test(shop.counter.station, actor=shop.counter.operator, kind=SelfTestKind.PRINT)
    shop.until(lambda: SelfTest.objects.get(pk=asked.pk).reported_at is not None)
    return bool(SelfTest.objects.get(pk=asked.pk).passed)


def test_a_card_that_no_printer_took_is_printed_later_and_written_once(
    shop: Shop, plug: Plug, card_printer: StartPrinter
) -> None:
    """D8: the printer was off, nothing was printed; the same card is printed when it is on again."""
    printer = card_printer()
    serial, chip = shop.blank()
    plug("--serial", chip)
    printer.kill()
    shop.start_agent(*READER, "--printer", printer.uri)
    issuance = shop.reaches(shop.counter.start(serial=serial), IssuanceStatus.AWAITING_LOOK)
    assert (issuance.print_state, issuance.is_written) == (PrintState.NOT_SUBMITTED, True)
    times = issuance.total_milliseconds, issuance.round_trips
    printer.start()
    print_again(issuance, actor=shop.counter.operator)
    shop.until(lambda: Issuance.objects.get().print_state == PrintState.COMPLETED)
    issuance = Issuance.objects.get()
    assert_printed(printer, front_of(issuance), face_of(issuance))
    kinds = list(issuance.steps.order_by("id").values_list("kind", flat=True))
    assert kinds == ["queue", "identify", "personalize", "print", "look", "print", "look"]
    assert (issuance.total_milliseconds, issuance.round_trips) == times, "the card's times are the first ones"
    assert confirm_look(issuance, good=True, actor=shop.counter.operator).status == IssuanceStatus.GOOD


def test_a_printer_that_cannot_turn_cards_is_told_before_a_card_is_written(
    shop: Shop, plug: Plug, card_printer: StartPrinter
) -> None:
    """The agent says so when it starts, the page before a blank is spent, the test print as well."""
    printer = card_printer(sides="one-sided")
    plug("--issued")
    shop.start_agent(*READER, "--printer", printer.uri)
    shop.until(lambda: (Station.objects.get().report.get("printer") or {}).get("turns_over") is False)
    shop.until(lambda: "打印机：不能两面打印" in shop.log.read_text())  # after its report
    stopping = [found.text for found in obstacles(Station.objects.get()) if found.stops]
    assert stopping == ["打印机不能两面打印"]
    assert not _print_test(shop)
    assert "打印机不能两面打印" in SelfTest.objects.get().error_text
    assert printer.printed() == []
    Station.objects.update(front_is_preprinted=True)
    assert [found.text for found in obstacles(Station.objects.get()) if found.stops] == []


def test_another_card_is_waited_out_and_none_in_time_is_told(shop: Shop, plug: Plug) -> None:
    """Another blank is spent by nobody: the agent says so and waits for the right one."""
    serial, chip = shop.blank()
    other = plug("--serial", "00000001000000FF")
    shop.start_agent(*READER, "--no-printer")
    issuance = shop.reaches(shop.counter.start(serial=serial), IssuanceStatus.REJECTED)
    assert (issuance.reason, issuance.step) == ("no_printer", 1)
    shop.close()
    serial, chip = shop.blank()
    shop.start_agent(*READER, "--printer", "ipp://127.0.0.1:9/ipp/print", card_seconds=8)
    issuance = shop.counter.start(serial=serial)
    shop.until(lambda: Issuance.objects.get(pk=issuance.pk).reason == "card_other_serial")
    other.end()
    plug("--serial", chip)
    issuance = shop.reaches(issuance, IssuanceStatus.AWAITING_LOOK)
    assert (issuance.print_state, issuance.is_written) == (PrintState.NOT_SUBMITTED, True)
    confirm_look(issuance, good=False, reason="print_fault", actor=shop.counter.operator)
    issuance = shop.reaches(shop.counter.start(), IssuanceStatus.REJECTED)
    assert issuance.reason == "no_card"

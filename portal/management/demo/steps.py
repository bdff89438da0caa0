"""The main job, step by step, as the people of the invented programme do it (architecture §3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone
from rich.console import Console

from billing.models import Statement
from billing.services.statements import draft_statement, statement_workbook
from orders.choices import AccountFileStatus, PackageStatus, RecordStatus
from orders.models import AccountFile, CardholderRecord, Order, Package
from orders.personal import open_problems
from orders.services.accounts import load_account_file, upload_account_file
from orders.services.ordering import create_orders
from orders.services.packages import receive_package
from orders.services.records import return_list
from orders.services.rekeying import start_due_rekeys
from portal.choices import Role
from portal.core.clock import today
from portal.files import portal_key
from portal.management.demo.programme import SEALING_BANK, Programme
from portal.management.demo.sealing import send_sealed
from portal.management.demo.workers import Crew, StuckError, last_task, look_after, wait_for
from portal.models import User
from portal.samples.accounts import write_account_files
from portal.samples.package import PackageHead, SampleOrder, SampleReport, make_package
from production.certificate import to_pdf
from production.choices import BatchStatus, Outcome
from production.models import Batch, Card, DestructionCertificate, RosterMember, StockLot
from production.selectors.batches import item_counts, machine_cards, runs_of_pass
from production.selectors.stock import free_by_lot
from production.services.cards import decide_unknown, read_unknown, request_unknown_decision
from production.services.closing import close_batch, ledger_counts, take_samples, totals
from production.services.delivery import confirm_carton, dispatch_batch, download_list, sign_delivery
from production.services.destruction import destroy_batch
from production.services.packing import pack_batch
from production.services.planning import decide_plan, plan_batches, propose_plan
from production.services.preparation import prepare_batch
from production.services.returns import send_return_file
from production.services.running import run_batch
from production.services.stock import decide_request, request_withdrawal
from quality.models import Hold
from quality.services.holds import release_hold
from quality.services.inspection import inspect_batch

BATCH_SIZE = 2000
SPARE_RATE = 0.01
SPARES_AT_LEAST = 5
FACES_SHOWN = 6
SAMPLES = 2


@dataclass
class Demo:
    """One run of the demo and what it has made so far."""

    programme: Programme
    folder: Path
    records: int
    console: Console
    crew: Crew
    sample: SampleOrder | None = None
    report: SampleReport | None = None
    package: Package | None = None
    order_ids: list[int] = field(default_factory=list)
    batch_ids: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def batches(self, *states: str) -> Iterator[Batch]:
        """Yield this run's batches in one of the states, oldest first."""
        found = Batch.objects.filter(pk__in=self.batch_ids, status__in=states)
        yield from found.select_related("order__bank", "order__contract__supplier").order_by("pk")

    def all_are(self, *states: str) -> bool:
        """Say whether every batch of this run is in one of the states."""
        return not Batch.objects.filter(pk__in=self.batch_ids).exclude(status__in=states).exists()

    def supplier_person(self, batch: Batch, role: str, number: int = 1) -> User:
        """Return the person of a role at the batch's supplier."""
        return self.programme.person(role, batch.order.contract.supplier, number)

    def wait(self, label: str, since: int, *states: str) -> None:
        """Wait until every batch is in one of the states."""
        wait_for(label, lambda: self.all_are(*states), self.console, self.crew, since=since)


def make_inputs(demo: Demo) -> None:
    """Generate people, photos, the sealed package and the account files."""
    start = Package.objects.aggregate(n=Sum("record_count", default=0))["n"]
    number = f"DEMO-{timezone.localtime():%Y%m%d-%H%M%S}"
    order = demo.sample = SampleOrder(count=demo.records, start=start, issue_date=today())
    head = PackageHead(number, demo.programme.province.code, settings.PORTAL_CODE, timezone.now())
    path = demo.folder / f"{number}.scp"
    demo.report = make_package(
        path, order, head, sender_key=demo.programme.province_key, recipient_key=portal_key().public
    )
    for old in (demo.folder / "accounts").glob("*"):
        old.unlink()
    write_account_files(demo.folder / "accounts", order.people())


def receive(demo: Demo) -> None:
    """Step 1: the package arrives and its seal is checked."""
    clerk = demo.programme.person(Role.PURCHASER_CLERK)
    path = max(demo.folder.glob("DEMO-*.scp"), key=lambda found: found.stat().st_mtime)
    since = last_task()
    with path.open("rb") as file:
        demo.package = receive_package(file, file_name=path.name, actor=clerk)
    wait_for("校验记录", lambda: _validated(demo), demo.console, demo.crew, since=since)


def _validated(demo: Demo) -> bool:
    assert demo.package is not None
    look_after()
    demo.package.refresh_from_db()
    if demo.package.status == PackageStatus.REFUSED:
        raise StuckError("数据包被拒收", got=demo.package.refusal_text)
    return demo.package.status == PackageStatus.VALIDATED


def check_returns(demo: Demo) -> None:
    """Step 2: every bad row was returned, each for the fault that was put into it."""
    assert demo.package is not None
    assert demo.report is not None
    clerk = demo.programme.person(Role.PURCHASER_CLERK)
    return_list(demo.package, demo.folder / "return-list.xlsx", actor=clerk)
    expected = {bad.seq: set(bad.fields) for bad in demo.report.bad}
    returned = demo.package.records.filter(status=RecordStatus.RETURNED).select_related("package")
    found = {record.row_number: {p.field for p in open_problems(record)} for record in returned}
    strange = [
        seq for seq in expected.keys() | found.keys() if not expected.get(seq, set()) & found.get(seq, set())
    ]
    if strange:
        raise StuckError("退回的记录与埋入的错误不一致", where="、".join(map(str, sorted(strange)[:10])))
    demo.counts["faults"] = len({bad.fault for bad in demo.report.bad})


def accounts(demo: Demo) -> None:
    """Step 3: each bank uploads its account file, one of them sealed; matching follows."""
    since = last_task()
    files = []
    for code, bank in demo.programme.banks.items():
        paths = sorted((demo.folder / "accounts").glob(f"{code}*"))
        if code == SEALING_BANK and paths:
            files += send_sealed(demo.programme, bank, paths)
            continue
        clerk = demo.programme.person(Role.BANK_CLERK, bank)
        for path in paths:
            with path.open("rb") as file:
                files.append(upload_account_file(file, file_name=path.name, bank=bank, actor=clerk).pk)
    load_when_checked(demo, files, since)


def load_when_checked(demo: Demo, files: Sequence[int], since: int) -> None:
    """Wait for the dry runs of account files, have the banks load them, wait for the matching."""
    found = AccountFile.objects.filter(pk__in=files).select_related("bank")
    wait_for(
        "预检账号文件",
        lambda: not found.filter(status="received").exists(),
        demo.console,
        demo.crew,
        since=since,
    )
    for account_file in found.filter(status=AccountFileStatus.CHECKED):
        load_account_file(account_file, actor=demo.programme.person(Role.BANK_CLERK, account_file.bank))
    loaded = (AccountFileStatus.LOADED, AccountFileStatus.REFUSED)
    wait_for(
        "导入并匹配",
        lambda: not found.exclude(status__in=loaded).exists(),
        demo.console,
        demo.crew,
        since=since,
    )


def order(demo: Demo) -> None:
    """Step 4: matched records become orders, due in six working days (R-10)."""
    left = CardholderRecord.objects.filter(status=RecordStatus.MATCHED).exclude(package=demo.package)
    demo.counts["left_before"] = left.count()  # for the counter, by an earlier run
    orders = create_orders(actor=demo.programme.person(Role.PURCHASER_CLERK))
    demo.order_ids = [made.pk for made in orders]


def plan(demo: Demo) -> None:
    """Step 5: batches, work plans approved by the purchaser, blanks withdrawn by two people (R-15)."""
    orders = Order.objects.filter(pk__in=demo.order_ids).select_related("contract__supplier", "bank")
    for made in orders:
        planner = demo.programme.person(Role.SUPPLIER_PLANNER, made.contract.supplier)
        demo.batch_ids += [batch.pk for batch in plan_batches(made, batch_size=BATCH_SIZE, actor=planner)]
    for batch in demo.batches(BatchStatus.PLANNED):
        _propose_and_approve(demo, batch)
    for batch in demo.batches(BatchStatus.APPROVED):
        _withdraw(demo, batch, batch.quantity + max(SPARES_AT_LEAST, math.ceil(batch.quantity * SPARE_RATE)))


def _propose_and_approve(demo: Demo, batch: Batch) -> None:
    people = list(RosterMember.objects.filter(contract=batch.order.contract, is_active=True).order_by("pk"))
    starts_at = timezone.now() + timedelta(hours=1)
    ends_at = timezone.make_aware(datetime.combine(batch.due_on, time(18)))
    proposed = propose_plan(
        batch,
        place="个人化车间一",
        starts_at=starts_at,
        ends_at=ends_at,
        leader=people[0],
        people=people,
        actor=demo.supplier_person(batch, Role.SUPPLIER_PLANNER),
    )
    decide_plan(proposed, approve=True, reason="同意", actor=demo.programme.person(Role.PURCHASER_APPROVER))


def _withdraw(demo: Demo, batch: Batch, quantity: int) -> None:
    first = demo.supplier_person(batch, Role.WAREHOUSE_KEEPER)
    second = demo.supplier_person(batch, Role.WAREHOUSE_KEEPER, 2)
    for lot in StockLot.objects.filter(contract=batch.order.contract).order_by("-pk"):
        taken = min(quantity, lot.quantity - lot.next_offset)
        if taken > 0:
            request = request_withdrawal(batch, lot, taken, actor=first)
            decide_request(request, approve=True, actor=second)
            quantity -= taken
        if not quantity:
            return


def prepare(demo: Demo) -> None:
    """Step 6: keys, chip data, stripes and faces."""
    since = last_task()
    for batch in demo.batches(BatchStatus.RELEASED):
        prepare_batch(batch, actor=demo.supplier_person(batch, Role.SUPPLIER_OPERATOR))
    demo.wait("准备数据", since, BatchStatus.PREPARED)
    _show_faces(demo)


def _show_faces(demo: Demo) -> None:
    """Write a few faces of invented people where one can look at them."""
    folder = demo.folder / "faces"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    for batch in demo.batches(BatchStatus.PREPARED):
        for run in runs_of_pass(batch):
            for card in machine_cards(run):
                if card.face:
                    (folder / f"{card.blank_serial}.jpg").write_bytes(card.face)
                if len(list(folder.glob("*.jpg"))) >= FACES_SHOWN:
                    return


def make(demo: Demo) -> None:
    """Step 7: the virtual line makes the cards, with its set rates of wrong, bad and unknown ones."""
    since = last_task()
    for batch in demo.batches(BatchStatus.PREPARED):
        run_batch(batch, actor=demo.supplier_person(batch, Role.SUPPLIER_OPERATOR))
    demo.wait("制作卡片", since, BatchStatus.INSPECTING)


def inspect(demo: Demo) -> None:
    """Step 8: read every card back; remake what is missing inside the deadline; settle holds and unknowns."""
    since = last_task()
    while not demo.all_are(BatchStatus.INSPECTED):
        for batch in demo.batches(BatchStatus.INSPECTING):
            inspect_batch(batch, actor=demo.supplier_person(batch, Role.SUPPLIER_QUALITY))
        _settle_unknown(demo)
        _withdraw_for_remakes(demo)
        wait_for("读回核对与重制", lambda: _at_rest(demo), demo.console, demo.crew, since=since)
        for batch in demo.batches(BatchStatus.PREPARED):
            run_batch(batch, actor=demo.supplier_person(batch, Role.SUPPLIER_OPERATOR))
        look_after()
    approver = demo.programme.person(Role.PURCHASER_APPROVER)
    for hold in Hold.objects.filter(batch__in=demo.batch_ids, status="active").select_related("batch"):
        release_hold(hold, measure="已停机校准读写头并重制全部不合格卡（演示）", actor=approver)


def _withdraw_for_remakes(demo: Demo) -> None:
    """Withdraw more blanks for a batch that spoiled more than its spares; its remake waits for them."""
    for batch in demo.batches(BatchStatus.INSPECTING):
        missing = item_counts(batch).pending - sum(lot.free for lot in free_by_lot(batch))
        if missing > 0:
            _withdraw(demo, batch, missing + SPARES_AT_LEAST)


def _at_rest(demo: Demo) -> bool:
    look_after()
    return demo.all_are(BatchStatus.PREPARED, BatchStatus.INSPECTING, BatchStatus.INSPECTED)


def _settle_unknown(demo: Demo) -> None:
    """Put unknown cards into the reader again; what stays mute is decided by two people (D8)."""
    unknown = Card.objects.filter(batch__in=demo.batch_ids, outcome=Outcome.UNKNOWN)
    for card in unknown.select_related("batch__order__contract__supplier"):
        first = demo.supplier_person(card.batch, Role.SUPPLIER_OPERATOR)
        second = demo.supplier_person(card.batch, Role.SUPPLIER_QUALITY)
        demo.counts["unknown"] = demo.counts.get("unknown", 0) + 1
        if read_unknown(card, actor=first).outcome == Outcome.UNKNOWN:
            decision = request_unknown_decision(
                card, outcome=Outcome.REJECTED, evidence="卡片无应答，已剪角封存（演示）", actor=first
            )
            decide_unknown(decision, approve=True, actor=second)


def close(demo: Demo) -> None:
    """Step 9: the counts of the floor equal the ledger; in the demo the people count right."""
    for batch in demo.batches(BatchStatus.INSPECTED):
        _keep_samples(demo, batch)
        counted = totals(ledger_counts(batch))
        close_batch(
            batch,
            good=counted.good,
            rejected=counted.rejected,
            samples=counted.samples,
            returned=counted.returned,
            actor=demo.supplier_person(batch, Role.SUPPLIER_OPERATOR),
        )
        demo.counts["good"] = demo.counts.get("good", 0) + counted.good
        demo.counts["rejected"] = demo.counts.get("rejected", 0) + counted.rejected
        demo.counts["samples"] = demo.counts.get("samples", 0) + counted.samples
        demo.counts["blanks_returned"] = demo.counts.get("blanks_returned", 0) + counted.returned


def _keep_samples(demo: Demo, batch: Batch) -> None:
    """Keep up to two spare blanks of the batch."""
    for held in free_by_lot(batch)[:1]:
        operator = demo.supplier_person(batch, Role.SUPPLIER_OPERATOR)
        lot = StockLot.objects.get(pk=held.lot_id)
        take_samples(batch, lot, min(SAMPLES, held.free), actor=operator)


def deliver(demo: Demo) -> None:
    """Step 10: pack, dispatch; each bank downloads its lists, counts its cartons and signs (R-23)."""
    since = last_task()
    for batch in demo.batches(BatchStatus.CLOSED):
        pack_batch(batch, actor=demo.supplier_person(batch, Role.SUPPLIER_OPERATOR))
    demo.wait("装箱并生成交接清单", since, BatchStatus.PACKED)
    lists = demo.folder / "lists"
    lists.mkdir(exist_ok=True)
    for old in lists.glob("*.xlsx"):
        old.unlink()
    for batch in demo.batches(BatchStatus.PACKED):
        sent = dispatch_batch(batch, actor=demo.supplier_person(batch, Role.SUPPLIER_OPERATOR))
        _sign(demo, sent, lists)


def _sign(demo: Demo, batch: Batch, lists: Path) -> None:
    clerk = demo.programme.person(Role.BANK_CLERK, batch.order.bank)
    for delivery in batch.deliveries.select_related("batch__order__bank").order_by("pk"):
        name, blocks = download_list(delivery, actor=clerk)
        (lists / name).write_bytes(b"".join(blocks))
        for carton in delivery.cartons.order_by("number"):
            confirm_carton(carton, counted=carton.card_count, actor=clerk)
        sign_delivery(delivery, actor=clerk)


def return_results(demo: Demo) -> None:
    """Step 11: the return file goes to the provincial system, sealed."""
    since = last_task()
    clerk = demo.programme.person(Role.PURCHASER_CLERK)
    for batch in demo.batches(BatchStatus.SIGNED):
        send_return_file(batch, actor=clerk)
    wait_for("生成回盘文件", lambda: True, demo.console, demo.crew, since=since)


def destroy(demo: Demo) -> None:
    """Step 12: personal data of signed batches is destroyed, certified and gone (R-22)."""
    since = last_task()
    clerk = demo.programme.person(Role.PURCHASER_CLERK)
    for batch in demo.batches(BatchStatus.SIGNED):
        destroy_batch(batch, actor=clerk)
    start_due_rekeys()
    certificates = DestructionCertificate.objects.filter(batch__in=demo.batch_ids).order_by("pk")
    unsigned = certificates.filter(signature=b"")
    wait_for("销毁个人数据", lambda: not unsigned.exists(), demo.console, demo.crew, since=since)
    folder = demo.folder / "certificates"
    folder.mkdir(exist_ok=True)
    for certificate in certificates:
        signature = bytes(certificate.signature)
        (folder / f"{certificate.number}.pdf").write_bytes(to_pdf(certificate.content, signature))


def settle(demo: Demo) -> None:
    """Step 13: draft statements of the current half-year from accepted cards (R-39)."""
    clerk = demo.programme.person(Role.PURCHASER_CLERK)
    for contract in demo.programme.contracts:
        statement: Statement = draft_statement(contract, actor=clerk)
        statement_workbook(statement, demo.folder / f"statement-lot{contract.lot}.xlsx", actor=clerk)

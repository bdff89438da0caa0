"""Batches at stations with a feeder: their cards with times, why they stopped, stop and continue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.db.models import QuerySet
from django.db.models.fields import BLANK_CHOICE_DASH
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from portal.adminkit import (
    ProgressAdmin,
    VerbForm,
    badge,
    bar,
    exact_filter,
    grouped,
    in_status,
    register,
    signed_in,
    status_column,
    table,
    verb,
)
from portal.adminkit.columns import Colour, told_column
from portal.choices import TaskStatus
from portal.texts import told
from production.admin.references import reference, reference_column
from production.choices import BatchStatus, Outcome
from production.models import Batch, Card
from quality.admin import InspectedBatchAdmin
from stations.admin.issuances import COLOURS
from stations.choices import FeederStatus, IssuanceStatus
from stations.models import FeederRun, Station
from stations.selectors import counted_runs
from stations.services.feeding import (
    BLANK_REASONS,
    continue_feeder,
    spoil_blanks,
    start_feeder,
    stop_feeder,
)
from stations.services.issuance import ask_to_resolve
from stations.services.registry import is_online

FEEDER_COLOURS: Mapping[str, Colour] = {"running": "info", "stopped": "warning", "ended": "success"}
CARDS_SHOWN = 200


def feeder_stations(batch: Batch) -> Any:
    """Return the stations with a feeder of the batch's own supplier."""
    return Station.objects.filter(
        operator=batch.order.contract.supplier_id, has_feeder=True, is_active=True,
        credential_digest__isnull=False,
    )  # fmt: skip


class StationChoice(forms.ModelChoiceField):
    """Stations with what they are doing."""

    def label_from_instance(self, station: Station) -> str:
        """Name station, place and whether it answers."""
        state = _t("在线") if is_online(station) else _t("离线")
        return f"{station.name}　{station.place}　{state}"


class StationForm(VerbForm):
    """Which of the supplier's stations."""

    station = StationChoice(Station.objects.none(), label=_("制卡点"))

    def prepare(self) -> None:
        """Offer the stations of the batch's supplier."""
        batch: Any = self.row.batch if isinstance(self.row, FeederRun) else self.row
        field: Any = self.fields["station"]
        field.queryset = feeder_stations(batch)
        first = self.row.station_id if isinstance(self.row, FeederRun) else field.queryset.first()
        self.initial.setdefault("station", first)


class BlanksForm(VerbForm):
    """Blanks that cannot be made."""

    serials = forms.CharField(
        label=_("白卡序列号"), widget=forms.Textarea, max_length=8000, help_text=_("每行一个")
    )
    reason = forms.ChoiceField(label=_("原因"))

    def prepare(self) -> None:
        """Offer the reasons, none of them chosen beforehand."""
        field: Any = self.fields["reason"]
        reasons = [(code, told(text)) for code, text in BLANK_REASONS.items()]
        field.choices = [*BLANK_CHOICE_DASH, *reasons]

    def clean_serials(self) -> list[str]:
        """Return the serials, each once."""
        return list(dict.fromkeys(self.cleaned_data["serials"].upper().split()))


def _has_unknown(run: FeederRun) -> bool:
    return run.status != FeederStatus.RUNNING and _unknown(run).exists()


def _unknown(run: FeederRun) -> Any:
    return run.issuances.filter(status=IssuanceStatus.UNKNOWN)


class UnknownForm(VerbForm):
    """Which of the run's unknown cards lies in the reader."""

    card = forms.ModelChoiceField(Card.objects.none(), label=_("卡片"), help_text=_("请把这张卡放入读写器"))

    def prepare(self) -> None:
        """Offer the unknown cards."""
        field: Any = self.fields["card"]
        run: Any = self.row
        field.queryset = Card.objects.filter(issuance__in=_unknown(run)).order_by("item__sequence")


admin.site.unregister([Batch])


@register(Batch)
class StationBatchAdmin(InspectedBatchAdmin):
    """A batch that may also be made at a station with a feeder."""

    fieldsets = (
        *InspectedBatchAdmin.fieldsets[:2],
        (
            InspectedBatchAdmin.fieldsets[2][0],
            {"fields": (*InspectedBatchAdmin.fieldsets[2][1]["fields"], "feeder_table")},
        ),
        *InspectedBatchAdmin.fieldsets[3:],
    )
    # Beside the line, whose place the station takes.
    actions_detail = (
        *InspectedBatchAdmin.actions_detail[:4],
        "run_at_feeder",
        *InspectedBatchAdmin.actions_detail[4:],
    )
    COUNTED_FIELDS = InspectedBatchAdmin.COUNTED_FIELDS | {"feeder_table"}

    def task_counts(self, row: Batch) -> dict[str, int]:
        """Follow the feeder while it works, the background tasks otherwise."""
        run = counted_runs(row.feeder_runs.filter(status=FeederStatus.RUNNING)).first()
        return cards_as_tasks(run) if run is not None else super().task_counts(row)

    @display(description=_("送卡制作"))
    def feeder_table(self, row: Batch) -> SafeString:
        """List the runs at stations."""
        runs = counted_runs(row.feeder_runs.select_related("station", "operator", "batch")).order_by("id")
        rows = [
            (
                reference(run, date_format(timezone.localtime(run.started_at), "DATETIME_FORMAT")),
                run.station,
                badge(run.get_status_display(), FEEDER_COLOURS[run.status]),
                made_bar(run),
                told(run.reason_text) or "-",
            )
            for run in runs
        ]
        headers = [_t("开始时间"), _t("制卡点"), _t("状态"), _t("进度"), _t("停止原因")]
        return table(headers, rows, empty=_t("没有在制卡点制作"))

    @verb(
        label=_("在制卡点制作"),
        permission="stations.run_feeder",
        form=StationForm,
        when=lambda row: row.status == BatchStatus.PREPARED and feeder_stations(row).exists(),
        icon="move_to_inbox",
        help_text=_(
            "代替上机制作：送卡器逐张送卡，同一套程序写卡、读回；只适合小批量。请先把已领用的白卡装入卡仓。"
        ),
    )
    def run_at_feeder(self, request: HttpRequest, row: Batch, cleaned: dict[str, Any]) -> str:
        """Start the batch at a station."""
        run = start_feeder(row, station=cleaned["station"], actor=signed_in(request))
        return _t("已在%(station)s开始制作") % {"station": run.station}


def cards_as_tasks(run: Any) -> dict[str, int]:
    """Return the cards of a running run of `counted_runs` as the panel of progress counts tasks."""
    if run.status != FeederStatus.RUNNING:
        return {}
    return {TaskStatus.DONE: run.done_count, TaskStatus.QUEUED: run.waiting_count}


def made_bar(run: Any) -> SafeString:
    """Show how many cards of a run of `counted_runs` have their outcome."""
    whole = run.done_count + run.waiting_count
    return bar(run.done_count, whole, f"{grouped(run.done_count)} / {grouped(whole)}")


@register(FeederRun)
class FeederRunAdmin(ProgressAdmin[FeederRun]):
    """Runs; they are started on the page of their batch. The page follows a running one by itself."""

    list_display = ("title", "station", "state", "progress", "reason_words", "operator", "started_at")
    list_display_links = ("title",)
    list_select_related = ("station", "batch", "operator")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        exact_filter("batch", _("批次号"), "batch__number"),
        exact_filter("station", _("制卡点代码"), "station__code"),
    )
    fieldsets: ClassVar[tuple[Any, ...]] = (
        (
            None,
            {
                "fields": (
                    ("batch_link", "state"),
                    ("station_link", "reason_words"),
                    ("operator", "work"),
                    ("started_at", "ended_at"),
                    "progress",
                )
            },
        ),
        (_("卡片与用时"), {"fields": ("pace", "card_table")}),
    )
    actions_detail: ClassVar[tuple[str, ...]] = ("stop", "go_on", "spoil", "read_unknown")
    state = status_column(FEEDER_COLOURS)
    reason_words = told_column("reason_text", _("停止原因"))
    batch_link = reference_column("batch", _("批次"))
    station_link = reference_column("station", _("制卡点"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[FeederRun]:
        """Count each run's cards with its row."""
        return counted_runs(super().get_queryset(request))

    @display(description=_("批次"))
    def title(self, row: FeederRun) -> str:
        """Name the run by its batch."""
        return row.batch.number

    def task_counts(self, row: FeederRun) -> dict[str, int]:
        """Count cards instead of tasks, while the feeder works."""
        return cards_as_tasks(row)

    @display(description=_("内容"))
    def work(self, row: FeederRun) -> str:
        """Say whether faces are printed here."""
        return _t("写芯片并打印卡面") if row.prints else _t("只写芯片")

    @display(description=_("进度"))
    def progress(self, row: FeederRun) -> SafeString:
        """Show how far it is."""
        return made_bar(row)

    @display(description=_("每张用时"))
    def pace(self, row: FeederRun) -> str:
        """Show the time from card to card, the hopper's own included."""
        times = list(row.issuances.order_by("id").values_list("requested_at", "ended_at"))
        ended = [end for _begun, end in times if end is not None]
        if not ended:
            return "-"
        seconds = (max(ended) - times[0][0]).total_seconds()
        return _t("平均 %(seconds).1f 秒，含送卡与停顿") % {"seconds": seconds / len(ended)}

    @display(description=_("卡片"))
    def card_table(self, row: FeederRun) -> SafeString:
        """List the cards in the order they came from the hopper, with times and what failed."""
        tries = row.issuances.select_related("card__item", "station", "batch").order_by("-id")[:CARDS_SHOWN]
        rows = [
            (
                issuance.card.item.sequence,
                reference(issuance, issuance.card.serial),
                badge(issuance.get_status_display(), COLOURS[issuance.status]),
                _seconds(issuance.total_milliseconds),
                date_format(timezone.localtime(issuance.requested_at), "H:i:s"),
                told(issuance.reason_text) or "-",
            )
            for issuance in tries
        ]
        headers = [_t("序号"), _t("芯片序列号"), _t("状态"), _t("写卡用时（秒）"), _t("开始时间"), _t("说明")]
        waiting = Card.objects.filter(machine_file=row.machine_file_id, outcome=Outcome.PENDING)
        left = list(waiting.order_by("item__sequence").values_list("serial", flat=True)[:CARDS_SHOWN])
        made = table(headers, rows, empty=_t("还没有开始制卡"))
        if not left:
            return made
        note = _t("待制 %(count)s 张：%(serials)s") % {"count": len(left), "serials": "、".join(left)}
        return format_html("{}<p class='mt-2'>{}</p>", made, note)

    @verb(
        label=_("停止送卡"),
        permission="stations.stop_feeder",
        when=in_status(FeederStatus.RUNNING),
        icon="stop_circle",
        variant=ActionVariant.DANGER,
        help_text=_("读写器中的这一张会做完，之后不再取下一张。"),
    )
    def stop(self, request: HttpRequest, row: FeederRun, cleaned: dict[str, Any]) -> str:
        """Stop after the card in the reader."""
        stop_feeder(row, actor=signed_in(request))
        return _t("已停止，读写器中的卡做完为止")

    @verb(
        label=_("继续制作"),
        permission="stations.run_feeder",
        form=StationForm,
        when=in_status(FeederStatus.STOPPED),
        icon="play_circle",
        variant=ActionVariant.PRIMARY,
        help_text=_("排除停止原因后继续；也可换到本单位的另一个制卡点，余下的白卡须一并移交。"),
    )
    def go_on(self, request: HttpRequest, row: FeederRun, cleaned: dict[str, Any]) -> str:
        """Go on with what is left."""
        run = continue_feeder(row, station=cleaned["station"], actor=signed_in(request))
        return _t("已在%(station)s继续制作") % {"station": run.station}

    @verb(
        label=_("报废未制的白卡"),
        permission="stations.run_feeder",
        form=BlanksForm,
        when=in_status(FeederStatus.STOPPED),
        icon="block",
        help_text=_("芯片无应答、损坏或缺失、不能制作的白卡；计为废品，对应的明细待重制。"),
    )
    def spoil(self, request: HttpRequest, row: FeederRun, cleaned: dict[str, Any]) -> str:
        """Reject blanks that cannot be made."""
        spoil_blanks(row, cleaned["serials"], reason=cleaned["reason"], actor=signed_in(request))
        return _t("已报废 %(count)s 张白卡") % {"count": len(cleaned["serials"])}

    @verb(
        label=_("重新读卡"),
        permission="stations.run_feeder",
        form=UnknownForm,
        when=_has_unknown,
        icon="contactless",
        help_text=_("把结果未知的卡放入读写器：内容相符为已制成，未写完为废品。"),
    )
    def read_unknown(self, request: HttpRequest, row: FeederRun, cleaned: dict[str, Any]) -> str:
        """Have the station read an unknown card again."""
        ask_to_resolve(cleaned["card"].issuance, actor=signed_in(request))
        return _t("已通知制卡点，稍后刷新本页查看结果")


def _seconds(milliseconds: int | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds / 1000:.2f}"

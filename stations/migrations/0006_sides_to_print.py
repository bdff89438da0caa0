from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Which sides a station prints, and which an issuance printed."""

    dependencies: ClassVar = [("stations", "0005_times_of_reader_portal_and_agent")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="station",
            name="front_is_preprinted",
            field=models.BooleanField(
                default=False,
                help_text="勾选后只打印背面；未勾选时一次打印两面，打印机须能翻卡。",
                verbose_name="白卡正面已预印",
            ),
        ),
        migrations.AddField(
            model_name="issuance",
            name="prints_front",
            field=models.BooleanField(default=False, verbose_name="打印正面"),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("stations", "0004_enrolment_codes_and_print_tests"),
    ]

    operations = [
        # Always 0: PC/SC does not tell transport from card, so the one figure holds both.
        migrations.RemoveField(model_name="issuance", name="transport_milliseconds"),
        migrations.RenameField(
            model_name="issuance", old_name="card_milliseconds", new_name="reader_milliseconds"
        ),
        migrations.AlterField(
            model_name="issuance",
            name="reader_milliseconds",
            field=models.PositiveIntegerField(null=True, verbose_name="卡片与读写器用时（毫秒）"),
        ),
        migrations.AlterField(
            model_name="issuance",
            name="portal_milliseconds",
            field=models.PositiveIntegerField(null=True, verbose_name="其中平台处理（毫秒）"),
        ),
        migrations.AddField(
            model_name="issuance",
            name="write_milliseconds",
            field=models.PositiveIntegerField(null=True, verbose_name="其中写卡（毫秒）"),
        ),
        migrations.AddField(
            model_name="issuance",
            name="read_milliseconds",
            field=models.PositiveIntegerField(null=True, verbose_name="其中读卡（毫秒）"),
        ),
        migrations.AddField(
            model_name="issuance",
            name="waited_milliseconds",
            field=models.PositiveIntegerField(null=True, verbose_name="等待平台（毫秒）"),
        ),
        migrations.AddField(
            model_name="issuance",
            name="round_trips",
            field=models.PositiveSmallIntegerField(null=True, verbose_name="与平台往返次数"),
        ),
    ]

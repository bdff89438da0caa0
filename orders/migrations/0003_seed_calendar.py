from django.db import migrations


def seed(apps, schema_editor):
    """Give a new installation its calendar; later years come with `manage.py seed_calendar`."""
    from portal.core.clock import today
    from portal.core.workdays import seed_days

    day_model = apps.get_model("orders", "WorkCalendarDay")
    year = today().year
    day_model.objects.bulk_create(
        [
            day_model(date=day.date, is_workday=day.is_workday, name=day.name_zh[:60], is_provisional=day.provisional)
            for day in seed_days(range(year - 1, year + 3))
        ],
        ignore_conflicts=True,
    )


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0002_initial'),
    ]

    operations = [
        migrations.RunPython(seed, migrations.RunPython.noop),
    ]

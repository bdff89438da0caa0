"""A ring of keys for packages and account files, so that one person can be forgotten alone (R-22)."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0004_payload_context_length'),
    ]

    operations = [
        migrations.AddField(
            model_name='accountfile',
            name='ring_key_id',
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AddField(
            model_name='cardholderrecord',
            name='in_ring',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='package',
            name='rekey_wanted_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='package',
            name='ring_key_id',
            field=models.CharField(blank=True, max_length=64),
        ),
    ]

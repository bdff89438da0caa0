"""Refuse every UPDATE and DELETE of stock movements in the database itself."""

from django.db import migrations

FORWARD = """
CREATE TRIGGER stock_movement_append_only BEFORE UPDATE OR DELETE ON production_stockmovement
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
BACKWARD = "DROP TRIGGER stock_movement_append_only ON production_stockmovement;"


class Migration(migrations.Migration):
    """Add the trigger."""

    dependencies = [("production", "0001_initial"), ("portal", "0002_append_only_audit")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]

"""Refuse every change of a decided destruction of cards in the database itself."""

from django.db import migrations

FORWARD = """
CREATE TRIGGER card_destruction_decided BEFORE UPDATE ON production_carddestruction
    FOR EACH ROW WHEN (OLD.status <> 'requested') EXECUTE FUNCTION refuse_change();
CREATE TRIGGER card_destruction_kept BEFORE DELETE ON production_carddestruction
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
BACKWARD = """
DROP TRIGGER card_destruction_kept ON production_carddestruction;
DROP TRIGGER card_destruction_decided ON production_carddestruction;
"""


class Migration(migrations.Migration):
    """Add the triggers."""

    dependencies = [("production", "0005_destroyed_cards"), ("portal", "0002_append_only_audit")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]

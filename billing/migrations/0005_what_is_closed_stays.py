"""Refuse every change of a closed statement, its lines and decided adjustments in the database itself."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION refuse_closed_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM billing_statement
        WHERE status = 'closed' AND id IN (OLD.statement_id, NEW.statement_id) FOR SHARE;
    IF FOUND THEN
        RAISE EXCEPTION 'the statement is closed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN COALESCE(NEW, OLD);
END $$;
CREATE TRIGGER statement_line_closed BEFORE INSERT OR UPDATE OR DELETE ON billing_statementline
    FOR EACH ROW EXECUTE FUNCTION refuse_closed_line();
CREATE TRIGGER statement_closed BEFORE UPDATE OR DELETE ON billing_statement
    FOR EACH ROW WHEN (OLD.status = 'closed') EXECUTE FUNCTION refuse_change();
CREATE TRIGGER adjustment_decided BEFORE UPDATE ON billing_adjustment
    FOR EACH ROW WHEN (OLD.status <> 'requested') EXECUTE FUNCTION refuse_change();
CREATE TRIGGER adjustment_kept BEFORE DELETE ON billing_adjustment
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
BACKWARD = """
DROP TRIGGER adjustment_kept ON billing_adjustment;
DROP TRIGGER adjustment_decided ON billing_adjustment;
DROP TRIGGER statement_closed ON billing_statement;
DROP TRIGGER statement_line_closed ON billing_statementline;
DROP FUNCTION refuse_closed_line();
"""


class Migration(migrations.Migration):
    """Add the triggers."""

    dependencies = [("billing", "0004_closing_and_adjustments"), ("portal", "0002_append_only_audit")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]

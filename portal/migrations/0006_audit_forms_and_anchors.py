"""Store audit entries as the bytes that are hashed, index what auditors search by, and add signed anchors.

Entries written before keep form 1 and still verify: their digest covers the values of the JSON, not its text.
"""

from django.db import migrations, models

import portal.models.audit

APPEND_ONLY = """
CREATE TRIGGER audit_not_emptied BEFORE TRUNCATE ON portal_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_anchor_append_only BEFORE UPDATE OR DELETE ON portal_auditanchor
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_anchor_not_emptied BEFORE TRUNCATE ON portal_auditanchor
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE INDEX audit_by_person ON portal_auditentry ((details ->> 'person'), position)
    WHERE details ->> 'person' IS NOT NULL;
"""
BACKWARD = """
DROP INDEX audit_by_person;
DROP TRIGGER audit_anchor_not_emptied ON portal_auditanchor;
DROP TRIGGER audit_anchor_append_only ON portal_auditanchor;
DROP TRIGGER audit_not_emptied ON portal_auditentry;
"""


class Migration(migrations.Migration):
    """Change the table's columns, not its rows: the trigger that refuses changes stays on throughout."""

    dependencies = [("portal", "0005_second_factor_sessions_role_requests")]
    operations = [
        migrations.CreateModel(
            name="AuditAnchor",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False, verbose_name="锚点号")),
                ("position", models.BigIntegerField(unique=True, verbose_name="审计序号")),
                ("digest", models.BinaryField(max_length=32, verbose_name="摘要")),
                ("entry_count", models.BigIntegerField(verbose_name="记录条数")),
                ("at", models.DateTimeField(verbose_name="签署时间")),
                ("previous", models.BinaryField(max_length=32)),
                ("public_key", models.BinaryField(max_length=64)),
                ("signature", models.BinaryField(max_length=80)),
            ],
            options={
                "verbose_name": "审计锚点",
                "verbose_name_plural": "审计锚点",
                "ordering": ["-number"],
            },
        ),
        migrations.AddField(
            "auditentry", "form", models.PositiveSmallIntegerField(default=1, verbose_name="摘要格式")
        ),
        migrations.AlterField(
            "auditentry", "form", models.PositiveSmallIntegerField(default=2, verbose_name="摘要格式")
        ),
        migrations.AlterField(
            "auditentry",
            "details",
            portal.models.audit.ExactJSONField(default=dict, verbose_name="内容"),
        ),
        migrations.AlterField(
            "auditentry", "actor_id", models.BigIntegerField(null=True, verbose_name="用户编号")
        ),
        migrations.AlterField("auditentry", "action", models.CharField(max_length=64, verbose_name="动作")),
        migrations.RemoveIndex("auditentry", "portal_audi_object__69a7ab_idx"),
        migrations.AddIndex(
            "auditentry", models.Index(fields=["actor_name", "position"], name="audit_by_actor")
        ),
        migrations.AddIndex(
            "auditentry",
            models.Index(fields=["organisation_code", "position"], name="audit_by_organisation"),
        ),
        migrations.AddIndex(
            "auditentry", models.Index(fields=["address", "position"], name="audit_by_address")
        ),
        migrations.AddIndex(
            "auditentry", models.Index(fields=["action", "position"], name="audit_by_action")
        ),
        migrations.AddIndex(
            "auditentry",
            models.Index(fields=["object_type", "object_id", "position"], name="audit_by_object"),
        ),
        migrations.AddIndex(
            "auditentry", models.Index(fields=["result", "position"], name="audit_by_result")
        ),
        migrations.RunSQL(APPEND_ONLY, BACKWARD),
    ]

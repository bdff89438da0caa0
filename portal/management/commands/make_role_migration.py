"""Write the data migration that a change of portal/roles.py needs: manage.py make_role_migration."""

from __future__ import annotations

from pathlib import Path
from pprint import pformat
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.migrations.loader import MigrationLoader

from portal.role_table import difference, last, migrated, reviewed

FOLDER = Path(__file__).resolve().parents[2] / "migrations"
TEXT = '''"""Keep the database's table of roles equal to portal/roles.py; written by make_role_migration."""

from django.db import migrations

from portal.role_table import RoleChange

ADDED = {added}
REMOVED = {removed}


class Migration(migrations.Migration):
    """Change who may do what."""

    dependencies = [("portal", "{last}")]
    operations = [RoleChange(ADDED, REMOVED)]
'''


class Command(BaseCommand):
    """Compare the table in the code with what the migrations lead to, and write the difference."""

    help = "按 portal/roles.py 与已有迁移的差别，写出角色与权限的数据迁移"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--name", default="roles", help="迁移的名称，默认 roles")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the file, or say that there is nothing to write."""
        loader = MigrationLoader(None)
        added, removed = difference(migrated(loader), reviewed())
        if not added and not removed:
            self.stdout.write("角色与权限没有变化")
            return
        newest = last(loader)[1]
        path = FOLDER / f"{int(newest[:4]) + 1:04d}_{options['name']}.py"
        try:
            with path.open("x") as file:
                file.write(TEXT.format(added=pformat(added), removed=pformat(removed), last=newest))
        except OSError as exc:
            raise CommandError(f"无法写入 {path.name}：{exc.strerror}") from exc
        self.stdout.write(f"已写入 portal/migrations/{path.name}")

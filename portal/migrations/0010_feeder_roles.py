"""Keep the database's table of roles equal to portal/roles.py; written by make_role_migration."""

from django.db import migrations

from portal.role_table import RoleChange

ADDED = {'purchaser_approver': ['stations.view_feederrun'],
 'purchaser_clerk': ['stations.view_feederrun'],
 'supplier_operator': ['stations.run_feeder',
                       'stations.stop_feeder',
                       'stations.view_feederrun'],
 'supplier_planner': ['stations.stop_feeder', 'stations.view_feederrun'],
 'supplier_quality': ['stations.stop_feeder', 'stations.view_feederrun'],
 'warehouse_keeper': ['stations.view_feederrun']}
REMOVED = {}


class Migration(migrations.Migration):
    """Change who may do what."""

    dependencies = [("portal", "0009_first_roles")]
    operations = [RoleChange(ADDED, REMOVED)]

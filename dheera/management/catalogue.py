"""
Every route of the management API.
"""

from __future__ import annotations

from dheera.management import audit, budgets, customers
from dheera.management.keys import imports as key_imports
from dheera.management.keys import life as key_life
from dheera.management.keys import looks as key_looks
from dheera.management.keys import making as keys
from dheera.management.routes import AnyRoute
from dheera.management.spending import activity, lists, logs, own, pruning, report
from dheera.management.teams import looks as team_looks
from dheera.management.teams import making as teams
from dheera.management.teams import members
from dheera.management.users import looks as user_looks
from dheera.management.users import making as users

ROUTES: tuple[AnyRoute, ...] = (
    *keys.ROUTES,
    *key_life.ROUTES,
    *key_looks.ROUTES,
    *key_imports.ROUTES,
    *users.ROUTES,
    *user_looks.ROUTES,
    *teams.ROUTES,
    *team_looks.ROUTES,
    *members.ROUTES,
    *customers.ROUTES,
    *budgets.ROUTES,
    *logs.ROUTES,
    *report.ROUTES,
    *lists.ROUTES,
    *activity.ROUTES,
    *own.ROUTES,
    *pruning.ROUTES,
    *audit.ROUTES,
)

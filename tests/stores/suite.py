"""
What every store promises, as properties. A store's test subclasses `StoreContract` (import this module, not the class,
or the class itself would be run) and says how a store is made, broken and mended.
"""

from __future__ import annotations

from tests.stores.lists import Audits, Lists
from tests.stores.look_ups import LookUps
from tests.stores.news import Absences, News
from tests.stores.writes import Writes


class StoreContract(LookUps, Writes, Lists, Audits, News, Absences):
    """
    All of it. See `Contract` for what a subclass has to say.
    """

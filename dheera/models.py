"""
Which models a key may name, by its own list and by those of whoever stands behind it.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from dheera.entities import Key, Team, User
from dheera.errors import ModelNotAllowed
from dheera.wildcards import EVERYTHING, Wildcards

ALL_TEAM_MODELS = "all-team-models"
ALL_PROXY_MODELS = "all-proxy-models"
NO_DEFAULT_MODELS = "no-default-models"
"""
Names in a list that are not models: those of the key's team, all that there are, none.
"""

LONGEST_NAME = 256
"""
Characters in the name of a model. No longer one is allowed where not all are.
"""

_SHOWN = 80
_PROVIDER = "mistral/"


@frozen
class Models:
    """
    Lists of models, each with whose it is (``key``, ``team``, ``user``). A model must be on all of them.

    A list holds names, and patterns in which ``*`` stands for anything; a leading ``mistral/`` does not count.
    """

    _lists: tuple[tuple[str, Wildcards], ...]

    @classmethod
    def of(cls, key: Key, team: Team | None, user: User | None) -> Models:
        """
        The models of *key*. An empty list allows all; the user's counts only where there is no team.
        """
        lists = [("key", _compiled(key.models, has_team=team is not None))]
        if team is not None:
            lists.append(("team", _compiled(team.models)))
        elif user is not None:
            lists.append(("user", _compiled(user.models)))
        return cls(tuple((whose, listed) for whose, listed in lists if listed is not EVERYTHING))

    @property
    def restricts(self) -> bool:
        """
        Whether there is any model that may not be used. If not, no request needs to be looked into.
        """
        return bool(self._lists)

    @property
    def whose(self) -> str:
        """
        Whose list it is that a request must keep to, first of all.
        """
        return self._lists[0][0] if self._lists else "key"

    def check(self, model: str) -> None:
        """
        Let *model* pass.

        :raises ModelNotAllowed: it is missing from a list.
        """
        is_name = len(model) <= LONGEST_NAME and model.isprintable()
        for whose, listed in self._lists:
            if not (is_name and listed.match(model)):
                raise ModelNotAllowed(
                    f"The model {_shown(model)} is not among the models of this API {_OWNERS[whose]}. Use one that is, "
                    "or ask whoever runs this dheera to add it.",
                    whose=whose,
                )


def _compiled(names: Sequence[str], *, has_team: bool = False) -> Wildcards:
    every = {ALL_PROXY_MODELS, "*"} | ({ALL_TEAM_MODELS} if has_team else set())  # the team's own list is looked at too
    plain = [name.removeprefix(_PROVIDER) for name in names]
    if not plain or not every.isdisjoint(plain):
        return EVERYTHING
    return Wildcards.of(name for name in plain if name not in (ALL_TEAM_MODELS, NO_DEFAULT_MODELS))


def _shown(model: str) -> str:
    cut = model if len(model) <= _SHOWN else model[:_SHOWN] + "..."
    return '"' + "".join(char if char.isprintable() else "?" for char in cut) + '"'


_OWNERS = {"key": "key", "team": "key's team", "user": "key's user"}

ANY_MODEL = Models(())

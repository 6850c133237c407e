"""
Rounds: every section for every program, one program at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field, frozen

from bench.figures import Summary, summaries
from bench.load import Place, WrongAnswer
from bench.programs import NotStarted, Program
from bench.proxies import Proxy, proxy_on, upstream_on
from bench.sections import SECTIONS, Subject

DIRECT = "direct"


@frozen(kw_only=True)
class Cores:
    """
    Where the measured program runs, and where all the rest does.
    """

    proxy: int
    load: int


@define(eq=False, kw_only=True)
class Rounds:
    """
    What was measured up to now, and what went wrong on the way.
    """

    _cores: Cores
    _proxies: Sequence[Proxy]
    _sections: Sequence[str]
    _seconds: float
    _tls: bool
    _scratch: Path
    _figures: dict[str, list[dict[str, float]]] = field(factory=dict, init=False)
    problems: list[str] = field(factory=list, init=False)

    def measure(self, number: int) -> None:
        """
        One round. Programs take turns section by section, so that a slow minute hits them alike.
        """
        folder = self._scratch / str(number)
        folder.mkdir()
        # Nobody always runs first.
        proxies = self._proxies if number % 2 else tuple(reversed(self._proxies))
        figures: dict[str, dict[str, float]] = {name: {} for name in [DIRECT, *(proxy.name for proxy in proxies)]}
        with upstream_on(self._cores.load, folder, tls=self._tls) as (place, upstream):
            for section in self._sections:
                subject = Subject(place=place, process=None, upstream=upstream, scratch=folder)
                figures[DIRECT] |= self._measured(DIRECT, section, subject)
                for proxy in proxies:
                    figures[proxy.name] |= self._proxied(proxy, section, place, upstream, folder)
        for name, found in figures.items():
            if name != DIRECT:
                found.update(_added(found, figures[DIRECT]))
            self._figures.setdefault(name, []).append(found)

    def _proxied(
        self, proxy: Proxy, section: str, upstream_place: Place, upstream: Program, folder: Path
    ) -> dict[str, float]:
        # Fresh each time: memory that an earlier section left free would hide what this one needs.
        with (
            self._noted(proxy.name, section),
            proxy_on(self._cores.proxy, folder, proxy, upstream_place) as (place, process),
        ):
            subject = Subject(place=place, process=process, upstream=upstream, scratch=folder)
            figures = self._measured(proxy.name, section, subject)
            if process.ended():
                raise WrongAnswer(f"it ended on the way:\n{process.said()}")
            return figures
        return {}

    def _measured(self, name: str, section: str, subject: Subject) -> dict[str, float]:
        print(f"  {section}: {name}", file=sys.stderr, flush=True)
        with self._noted(name, section):
            subject.warm()
            return dict(SECTIONS[section](subject, self._seconds))
        return {}

    @contextmanager
    def _noted(self, name: str, section: str) -> Iterator[None]:
        # One that fails leaves the others worth having.
        try:
            yield
        except (WrongAnswer, NotStarted, OSError) as problem:
            self.problems.append(f"{name}, {section}: {str(problem) or repr(problem)}")

    def summaries(self) -> dict[str, dict[str, Summary]]:
        """
        Each program's figures over all rounds; proxies in their order, the direct way last.
        """
        names = [*(proxy.name for proxy in self._proxies), DIRECT]
        return {name: summaries(self._figures.get(name, [])) for name in names}


def _added(figures: dict[str, float], direct: dict[str, float]) -> dict[str, float]:
    return {
        f"added_{quantile}_ms": figures[latency] - direct[latency]
        for quantile in ("p50", "p99")
        if (latency := f"latency_{quantile}_ms") in figures and latency in direct
    }

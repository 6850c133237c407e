"""
Rounds: every section for every program, one program at a time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field, frozen

from bench.document import DIRECT, PLAIN, TLS
from bench.figures import Programs, Summary
from bench.installing import Tools
from bench.load import Place, WrongAnswer
from bench.programs import NotStarted, Program
from bench.proxy import Proxy, proxy_on, upstream_on
from bench.sections import SECTIONS
from bench.subject import Subject

# What is measured with TLS to the upstream too: the main figures.
_WITH_TLS = frozenset({"requests", "streams", "memory"})


@frozen(kw_only=True)
class Cores:
    """
    Where the measured program runs, and where all the rest does.
    """

    proxy: int
    load: int

    def of(self, proxy: Proxy) -> frozenset[int]:
        """Where this one runs."""
        return frozenset({self.proxy, self.load} if proxy.spread else {self.proxy})


@define(eq=False, kw_only=True)
class Rounds:
    """
    What was measured up to now, and what went wrong on the way.

    :param modes: how the proxies speak to the upstream: PLAIN, TLS, or both.
    """

    _cores: Cores
    _proxies: Sequence[Proxy]
    _sections: Sequence[str]
    _modes: Sequence[str]
    _seconds: float
    _tools: Tools
    _scratch: Path
    _figures: dict[str, dict[str, dict[str, list[float]]]] = field(factory=dict, init=False)
    problems: list[str] = field(factory=list, init=False)

    def measure(self, number: int) -> None:
        """
        One round. Programs take turns section by section, so that a slow minute hits them alike.
        """
        # Nobody always runs first.
        proxies = self._proxies if number % 2 else tuple(reversed(self._proxies))
        for mode in self._modes:
            folder = self._scratch / f"{number}-{mode}"
            folder.mkdir()
            with upstream_on(self._cores.load, folder, tls=mode == TLS) as (place, upstream):
                for section in self._sections:
                    if mode == PLAIN or section in _WITH_TLS:
                        round_ = _Round(mode, place, upstream, folder)
                        self._section(round_, section, proxies)
                        self._note(mode, round_.figures)

    def _section(self, round_: _Round, section: str, proxies: Sequence[Proxy]) -> None:
        subject = Subject(place=round_.place, process=None, upstream=round_.upstream, scratch=round_.folder)
        self._measured(round_, DIRECT, section, subject)
        for proxy in proxies:
            if proxy.sections is None or (section in proxy.sections and round_.mode == PLAIN):
                self._proxied(round_, section, proxy)

    def _proxied(self, round_: _Round, section: str, proxy: Proxy) -> None:
        # Fresh each time: memory that an earlier section left free would hide what this one needs.
        with (
            self._noted(round_.mode, proxy.name, section),
            proxy_on(self._cores.of(proxy), round_.folder, proxy, round_.place, self._tools) as (place, process),
        ):
            subject = Subject(
                place=place, process=process, upstream=round_.upstream, scratch=round_.folder, pace=proxy.pace
            )
            self._measured(round_, proxy.name, section, subject)
            if process.ended():
                raise WrongAnswer(f"it ended on the way:\n{process.said()}")

    def _measured(self, round_: _Round, name: str, section: str, subject: Subject) -> None:
        begun = time.monotonic()
        with self._noted(round_.mode, name, section):
            subject.warm()
            for figures in SECTIONS[section](subject, self._seconds):
                round_.figures.setdefault(name, {}).update(figures)
        print(f"  {round_.mode} {section}: {name} ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)

    @contextmanager
    def _noted(self, mode: str, name: str, section: str) -> Iterator[None]:
        # One that fails leaves the others worth having.
        try:
            yield
        except (WrongAnswer, NotStarted, OSError) as problem:
            self.problems.append(f"{name}, {section} ({mode}): {str(problem) or repr(problem)}")

    def _note(self, mode: str, round_figures: Mapping[str, dict[str, float]]) -> None:
        direct = round_figures.get(DIRECT, {})
        for name, figures in round_figures.items():
            added = {} if name == DIRECT else _added(figures, direct)
            kept = self._figures.setdefault(mode, {}).setdefault(name, {})
            for key, value in (figures | added).items():
                kept.setdefault(key, []).append(value)

    def summaries(self) -> dict[str, Programs]:
        """
        By mode, each program's figures over all rounds; proxies in their order, the direct way last.
        """
        names = [*(proxy.name for proxy in self._proxies), DIRECT]
        return {
            mode: {
                name: {key: Summary(values) for key, values in programs[name].items()}
                for name in names
                if name in programs
            }
            for mode, programs in self._figures.items()
        }


@frozen
class _Round:
    """
    One section in front of a stand-in for Mistral, and what was measured in it.
    """

    mode: str
    place: Place
    upstream: Program
    folder: Path
    figures: dict[str, dict[str, float]] = field(factory=dict)


def _added(figures: Mapping[str, float], direct: Mapping[str, float]) -> dict[str, float]:
    return {
        f"added_{quantile}_ms": figures[latency] - direct[latency]
        for quantile in ("p50", "p99")
        if (latency := f"latency_{quantile}_ms") in figures and latency in direct
    }

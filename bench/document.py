"""
What a run has measured, as JSON; several runs can be put together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from bench.figures import Programs, Summary, ratio

SUBJECT = "dheera"
YARDSTICK = "nginx"
DIRECT = "direct"
PLAIN, TLS = "plain", "tls"
"""
How the proxies speak to the upstream.
"""


@frozen(kw_only=True)
class Document:
    """
    Figures by mode and program, and where they are from.

    :param runs: of each run when and on what machine it was, with which versions.
    :param left_out: of each program that could not be had the sentence that says why.
    """

    runs: Sequence[Mapping[str, Any]]
    figures: Mapping[str, Programs]
    left_out: Mapping[str, str]
    problems: Sequence[str]

    def programs(self) -> list[str]:
        """All of which there are figures, each once, in their order."""
        return list(dict.fromkeys(name for programs in self.figures.values() for name in programs))

    def figure(self, mode: str, name: str, key: str) -> Summary | None:
        """One figure of one program, where it is known."""
        return self.figures.get(mode, {}).get(name, {}).get(key)

    def plain(self) -> dict[str, Any]:
        """As JSON has it: with medians, and ratios to the yardstick, for those who read it."""
        return {
            "runs": list(self.runs),
            "left_out": dict(self.left_out),
            "figures": {
                mode: {
                    name: {
                        key: {"median": summary.median, "rounds": list(summary.rounds)}
                        for key, summary in found.items()
                    }
                    for name, found in programs.items()
                }
                for mode, programs in self.figures.items()
            },
            "ratios": {mode: self._ratios(programs) for mode, programs in self.figures.items()},
            "problems": list(self.problems),
        }

    def _ratios(self, programs: Programs) -> dict[str, dict[str, float]]:
        yardstick = programs.get(YARDSTICK, {})
        found = {
            name: {key: ratio(summary, yardstick.get(key)) for key, summary in figures.items()}
            for name, figures in programs.items()
            if name != YARDSTICK
        }
        return {name: {key: each for key, each in ratios.items() if each is not None} for name, ratios in found.items()}

    def write(self, file: Path) -> None:
        """Keep it."""
        file.write_text(json.dumps(self.plain(), indent=1) + "\n")


def read(file: Path) -> Document:
    """
    What `write` kept.
    """
    found = json.loads(file.read_text())
    return Document(
        runs=found["runs"],
        left_out=found["left_out"],
        figures={
            mode: {
                name: {key: Summary(each["rounds"]) for key, each in figures.items()}
                for name, figures in programs.items()
            }
            for mode, programs in found["figures"].items()
        },
        problems=found["problems"],
    )


def together(documents: Sequence[Document]) -> Document:
    """
    Several runs as one: the rounds of a figure that more than one has are put after each other.
    """
    rounds: dict[str, dict[str, dict[str, list[float]]]] = {}
    for document in documents:
        for mode, programs in document.figures.items():
            for name, figures in programs.items():
                kept = rounds.setdefault(mode, {}).setdefault(name, {})
                for key, summary in figures.items():
                    kept.setdefault(key, []).extend(summary.rounds)
    put_together: dict[str, Programs] = {
        mode: {name: {key: Summary(values) for key, values in found.items()} for name, found in programs.items()}
        for mode, programs in rounds.items()
    }
    measured = {name for programs in put_together.values() for name in programs}
    return Document(
        runs=[run for document in documents for run in document.runs],
        left_out={
            name: sentence
            for document in documents
            for name, sentence in document.left_out.items()
            if name not in measured
        },
        figures=put_together,
        problems=[problem for document in documents for problem in document.problems],
    )

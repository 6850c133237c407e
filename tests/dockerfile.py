"""
The Dockerfile, as a builder reads it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

DOCKERFILE = Path(__file__).parent.parent / "Dockerfile"


@frozen
class Instruction:
    """
    One of them: ``COPY``, and all that follows.
    """

    name: str
    text: str

    @property
    def words(self) -> Sequence[str]:
        """
        What follows, in words, without options.
        """
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    @property
    def command(self) -> Sequence[str]:
        """
        The command that follows as an array, which no shell reads.
        """
        found: Sequence[str] = json.loads(self.text[self.text.index("[") :])
        return found


def stages() -> Sequence[Sequence[Instruction]]:
    """
    What comes before the first stage, then each stage from its ``FROM``.
    """
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = filter(None, text.replace("\\\n", "").splitlines())
    instructions = [Instruction(*line.split(maxsplit=1)) for line in lines]
    starts = [nth for nth, each in enumerate(instructions) if each.name == "FROM"]
    return [instructions[start:end] for start, end in zip([0, *starts], [*starts, None], strict=True)]


def last(name: str) -> Instruction:
    """
    What the image ends up with, of instructions that override each other.
    """
    return [each for each in stages()[-1] if each.name == name][-1]


def variables() -> Mapping[str, str]:
    """
    The environment that the image sets.
    """
    return dict(word.split("=", 1) for each in stages()[-1] if each.name == "ENV" for word in each.words)

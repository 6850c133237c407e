"""
What was found, how it is told, and what comes of it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, TypeAlias

from msgspec import Struct, structs

from dheera.commands.tables import clean
from dheera.redaction import Redaction

State: TypeAlias = Literal["ok", "warn", "fail"]


class Finding(Struct, frozen=True, kw_only=True):
    """
    One thing that was looked at.

    :param name: of what was looked at, in a word or two.
    :param found: without a full stop at its end.
    :param mend: what to do about it, in sentences; empty if there is nothing to do.
    """

    state: State
    name: str
    found: str
    mend: str = ""

    @classmethod
    def ok(cls, name: str, found: str) -> Self:
        """
        It is well.
        """
        return cls(state="ok", name=name, found=found)

    @classmethod
    def warn(cls, name: str, found: str, mend: str) -> Self:
        """
        It works, and may not for long.
        """
        return cls(state="warn", name=name, found=found, mend=mend)

    @classmethod
    def fail(cls, name: str, found: str, mend: str) -> Self:
        """
        It does not work.
        """
        return cls(state="fail", name=name, found=found, mend=mend)


def told(finding: Finding) -> str:
    """
    A finding in a line for people.
    """
    state = "FAIL" if finding.state == "fail" else finding.state
    return clean(f"{state:<4}  {finding.name}: {finding.found}. {finding.mend}".rstrip())


def summed_up(findings: Sequence[Finding]) -> str:
    """
    All of them in a sentence.
    """
    states = [each.state for each in findings]
    failed, warned = states.count("fail"), states.count("warn")
    warnings = f"{warned} {'warning' if warned == 1 else 'warnings'}"
    if failed:
        return f"{failed} of {len(states)} checks failed, {warnings}."
    return f"No check failed, {warnings}." if warned else "All is well."


def without_secrets(finding: Finding, redaction: Redaction) -> Finding:
    """
    A finding as it may be shown, whoever wrote the words in it.
    """
    return structs.replace(
        finding,
        name=redaction.text(finding.name),
        found=redaction.text(finding.found),
        mend=redaction.text(finding.mend),
    )

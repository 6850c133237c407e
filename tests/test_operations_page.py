"""
``docs/operations.md`` names what there is: commands, settings, metrics, files, errors, log lines; and links lead
somewhere.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from unittest import TestCase

import click

from dheera import errors
from dheera.cli import dheera_ai
from dheera.daemon import FLUSH_SECONDS
from dheera.definitions import SETTINGS
from dheera.descriptors import reserved
from dheera.settings import Config
from dheera.succession import PATIENCE_SECONDS
from dheera.supervisor.worker import SILENT_SECONDS
from dheera.wire.crowd import TOLD_TO_LEAVE
from tests.test_dashboard import EXPOSED, SAMPLES, QueriesTestCase, named

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", PAGE, flags=re.DOTALL | re.MULTILINE))


def command_lines() -> Iterator[list[str]]:
    """
    The words behind each ``dheera_ai`` that is shown.
    """
    for line in [*SPANS, *(line for block in FENCED for line in block.splitlines())]:
        for words in re.findall(r"(?:^|[/\s])dheera_ai((?: +[^\s|&;#]+)*)", line):
            yield shlex.split(words)


def texts() -> Iterator[str]:
    """
    All that the program may say, wherever it is written; docstrings, which begin on a line of their own, it does not.
    """
    for module in (ROOT / "dheera").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.startswith("\n"):
                yield node.value


def slug(heading: str) -> str:
    """
    The anchor of a heading.
    """
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """
    Those of *page*.
    """
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)}


NOBODY = click.Context(dheera_ai)


class CommandTests(TestCase):
    def test_words_and_options(self) -> None:
        """
        Each command is one of ours, and takes the options that it is shown with.
        """
        lines = list(command_lines())
        self.assertGreater(len(lines), 8)
        for words in lines:
            command: click.Command = dheera_ai
            options = set(self.options(command))
            for word in words:
                if isinstance(command, click.Group) and (below := command.get_command(NOBODY, word)):
                    command = below
                    options |= set(self.options(command))
                elif word.startswith("-"):
                    self.assertIn(word, options, words)
                elif isinstance(command, click.Group):
                    # What is no command of a group can only be what an option before it takes.
                    self.assertTrue(words[max(words.index(word) - 1, 0)].startswith("-"), words)

    def options(self, command: click.Command) -> Iterator[str]:
        """
        Those that *command* takes.
        """
        for parameter in command.params:
            yield from parameter.opts


class NameTests(QueriesTestCase):
    def test_settings(self) -> None:
        """
        A setting that is named with its table is one.
        """
        found = [match for span in SPANS if (match := re.fullmatch(r"\[([a-z_]+)\] ([a-z_]+)( = .+)?", span))]
        self.assertGreater(len(found), 15)
        for match in found:
            self.assertIn((match[1], match[2]), SETTINGS)

    def test_spans_are_whole(self) -> None:
        """
        No name is cut by the end of a line: it would be looked for in vain, by people and by these tests.
        """
        prose = re.sub(r"^```.*?^```", "", PAGE, flags=re.DOTALL | re.MULTILINE)
        self.assertEqual([], [line for line in prose.splitlines() if line.count("`") % 2])

    def test_metrics(self) -> None:
        """
        Queries are about what is counted, and by labels that it has; so is what is only named.
        """
        queries = [span for span in SPANS if "(" in span and named(span)]
        self.assertGreater(len(queries), 6)
        for query in queries:
            self.check(query)
        for span in SPANS:
            self.assertLessEqual(named(span), {*SAMPLES, *EXPOSED}, span)

    def test_files(self) -> None:
        """
        Files of ours that are named are there.
        """
        files = [span for span in SPANS if re.fullmatch(r"(conf|systemd)/\S*|[A-Z]+\.md|\w+\.(lock|yaml)", span)]
        self.assertGreater(len(files), 5)
        self.assertEqual([], [file for file in files if not (ROOT / file).exists()])

    def test_errors(self) -> None:
        """
        Each error that clients may see is one of ours, with the status that it has.
        """
        section = PAGE.partition("## What clients see\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| (\d+) ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
        self.assertGreater(len(rows), 12)
        for status, names in rows:
            for name in re.findall(r"`(\w+)`", names):
                self.assertEqual(int(status), getattr(errors, name).status, name)

    def test_log(self) -> None:
        """
        Each line of the log that is explained is one of ours, between the words that stand for others.
        """
        section = PAGE.partition("## What the log says\n")[2].partition("\n## ")[0]
        lines = re.findall(r"^\| (\w[^|]+) \| \w", section, re.MULTILINE)
        self.assertGreater(len(lines), 15)
        said = "\n".join(texts())
        for line in lines:
            fixed = re.split(r"\b[A-Z]+\b|\.\.\.", line.replace("MISTRAL_API_KEY", ""))
            self.assertEqual([], [words for words in fixed if words.strip(": ") not in said], line)

    def test_figures(self) -> None:
        """
        What an operator has to reckon with is what the program reckons with.
        """
        config = Config()
        limits = config.server_limits
        files = limits.connections + TOLD_TO_LEAVE + limits.requests + reserved(config)
        for figure in (
            f"{files:,} unless configured",
            f"+ {FLUSH_SECONDS:g} s by itself",
            f"up to {FLUSH_SECONDS:g} more",
            f"does not serve within {PATIENCE_SECONDS:g} s",
            f"no sign of life for {SILENT_SECONDS:g} seconds",
        ):
            self.assertIn(figure, " ".join(PAGE.split()))


class LinkTests(TestCase):
    def test_links(self) -> None:
        """
        What these pages link to is there, to the heading.
        """
        pages = [DOCS / "operations.md", DOCS / "security.md", DOCS / "configuration.md"]
        for page in (*pages, ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
            for file, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
                target = (page.parent / file).resolve() if file else page
                self.assertTrue(target.exists(), f"{page.name}: {file}")
                if anchor:
                    self.assertIn(anchor, anchors(target), f"{page.name}: {file}")

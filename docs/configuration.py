"""
Prints docs/configuration.md: what each setting is for, as conf/dheera.toml says; what it may be, as the parser does.

::

    python docs/configuration.py > docs/configuration.md
"""  # noqa: INP001 - a program beside the page that it makes

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import attrs
from attrs import field, frozen

from dheera.definitions import ENVIRONMENT, FIXED, OPTIONS, SETTINGS, TABLES, UPSTREAMS, Place
from dheera.settings import Config, OtherUpstream

SAMPLE = Path(__file__).parent.parent / "conf" / "dheera.toml"
BESIDE = f"{UPSTREAMS}.*"
FREE: Mapping[str, tuple[str, str]] = {
    "sinks": ("sinks.NAME", "[sinks.md](sinks.md)"),
    "prices": ("prices", "[money.md](money.md)"),
}
"""
Tables whose keys are read by others: how they are written, and which page tells of them.
"""

WIDTH = 120

INTRODUCTION = """\
# Configuration

Every setting of dheera. `python docs/configuration.py` makes this page from the definitions that the parser reads by,
and from the sentences of [conf/dheera.toml](../conf/dheera.toml), which is the file to copy.

A setting comes from the last of these that names it:

1. its default, below;
2. the TOML file: `--config FILE`, or `DHEERA_AI_CONFIG`; none is searched for, and file names in it are relative to its
   folder;
3. for secrets, a credential: a file in the folder that `CREDENTIALS_DIRECTORY` names, called after its setting; systemd
   makes it (`LoadCredential=`), and Docker's secrets in `/run/secrets` fit; files with other names are not looked at;
4. an environment variable; one that is set to the empty string is not set;
5. an option of `dheera_ai`.

The state directory, where not configured, is the first that `STATE_DIRECTORY` names (systemd's `StateDirectory=`), else
`~/.local/state/dheera`.

`dheera_ai check` says all that is wrong, each with its place, what was found and what was wanted, and shows no secret.
A daemon does not start with a wrong configuration (exit 2), and one that runs goes on with the old one
([operations.md](operations.md#reload)).

**Changed by:** "reload" is SIGHUP or `systemctl reload`, which closes no connection; calls under way go on by the old
setting. "restart" is a new start, or SIGUSR2, which hands over to a new process without a refused connection
([operations.md](operations.md#upgrade)).

Sizes are in bytes, times in seconds, money is in US dollars. Where a text may be empty, `""` means "not set".
"""


@frozen
class Sample:
    """
    What the sample says, in its order: of each table, and of each setting.
    """

    tables: dict[str, str] = field(factory=dict)
    settings: dict[Place, str] = field(factory=dict)


def read(text: str) -> Sample:
    """
    The sentences of the sample, each with what it stands above.
    """
    sample = Sample()
    said: list[str] = []
    table = ""
    for line in text.splitlines():
        bare = re.sub(r"^#   (?=# |\[|[a-z_]+ = )", "", line)  # an example is a comment as a whole
        if header := re.match(r"\[(\w+)(\..+)?\]", bare):
            table = BESIDE if header[1] == UPSTREAMS else header[1]
            sample.tables.setdefault(table, " ".join(said))
        elif setting := re.match(r"#?([a-z_]+) = ", bare):
            sample.settings[table, setting[1]] = " ".join(said)
        elif sentence := re.match(r"# (\S.*)", bare):
            said.append(sentence[1])
            continue
        elif bare:
            continue  # "#" alone stands within a text
        said = []
    return sample


def default(place: Place) -> str:
    """
    What counts if nobody says anything, as the file would say it.
    """
    table, key = place
    value = {"": Config, BESIDE: OtherUpstream, **{name: of for name, (_, of) in TABLES.items()}}[table]
    [found] = [each.default for each in attrs.fields(value) if each.name == key]
    if isinstance(found, attrs.Factory):  # type: ignore[arg-type]  # to mypy it is a function
        found = found.factory()
    return _written(found)


def _written(value: Any) -> str:
    if value is None or value == "":
        return "not set"
    return "`{}`" if value == {} else f"`{json.dumps(value)}`"


def sources(place: Place) -> Iterator[str]:
    """
    Where else it may be said than in the file.
    """
    table, key = place
    yield from (f"environment: `{name}`" for name, of in ENVIRONMENT.items() if of == place)
    yield from (f"option: `--{name.replace('_', '-')}`" for name, of in OPTIONS.items() if of == place)
    if SETTINGS[place].hidden:
        yield f"credential: `{f'{_name(table)}.' if table else ''}{key}`"


def _name(table: str) -> str:
    return table.replace("*", "NAME")


def _prose(text: str) -> str:
    """
    Sentences as Markdown, without those that `sources` tells again.
    """
    text = re.sub(r"\s*\b(Environment|Option): [^.]*(\.(?=\s|$)|$)", "", text)
    text = re.sub(r"\bdocs/([a-z]+\.md)", r"[\1](\1)", text)
    text = re.sub(r"(?<!\")(https?://\S+)|(\*)", lambda found: f"`{found[1]}`" if found[1] else "\\*", text)
    return _wrapped(text.strip())


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  " if text.startswith("- ") else "", break_on_hyphens=False)


def page(text: str) -> Iterator[str]:
    """
    The page, line by line, of a sample that reads *text*.
    """
    sample = read(text)
    yield INTRODUCTION
    yield "## The top of the file\n"
    for table in ["", *sample.tables]:
        if table in FREE:
            written, elsewhere = FREE[table]
            yield f"## [{written}]\n"
            yield f"{_prose(sample.tables[table])}\n"
            yield f"What such a table may say: {elsewhere}. Changed by: reload.\n"
            continue
        if table:
            yield f"## [{_name(table)}]\n"
            if introduction := _prose(sample.tables[table]):
                yield f"{introduction}\n"
        for place in [each for each in sample.settings if each in SETTINGS and each[0] == table]:
            yield from _setting(place, _prose(sample.settings[place]))


def _setting(place: Place, text: str) -> Iterator[str]:
    table, key = place
    yield f"### {f'[{_name(table)}] ' if table else ''}{key}\n"
    yield f"{text}\n"
    yield _wrapped(f"- wanted: {SETTINGS[place].wanted}")
    yield f"- default: {default(place)}"
    yield from (f"- {each}" for each in sources(place))
    yield f"- changed by: {'restart' if place in FIXED else 'reload'}\n"


def main(out: IO[str]) -> None:
    """
    Print the page.
    """
    out.write("\n".join(page(SAMPLE.read_text(encoding="utf-8"))).rstrip("\n") + "\n")


if __name__ == "__main__":
    main(sys.stdout)

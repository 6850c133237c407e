"""
The configuration: defaults < TOML file < credentials < environment < command line, as one frozen value.

All that is wrong is told at once, each with its place, what was found and what was wanted.
Reads the files that it is given and nothing else.
"""

from __future__ import annotations

import re
import ssl
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, frozen

from dheera import kinds
from dheera.definitions import (
    CONFIG_VARIABLE,
    CREDENTIALS_VARIABLE,
    ENVIRONMENT,
    OPTIONS,
    TABLES,
    UPSTREAMS,
    Place,
    kind_of,
    unknown,
    written,
)
from dheera.routes import TAKEN
from dheera.settings import Config, OtherUpstream


@define(eq=False)
class ConfigurationError(Exception):
    """
    The configuration cannot be used.

    :param problems: one sentence each, in the order of the sources; none holds a secret.
    """

    problems: Sequence[str]

    def __str__(self) -> str:
        return "\n".join(self.problems)


def load(path: Path | None, environment: Mapping[str, str], command_line: Mapping[str, object]) -> Config:
    """
    The configuration from all its sources.

    :param path: the TOML file; ``None`` leaves it to ``DHEERA_AI_CONFIG``. No file is searched for.
    :param environment: a variable that is set to the empty string is not set.
    :param command_line: by the names in `OPTIONS`, text as typed; ``None``, an empty sequence, and a
        flag that is off say nothing.
    :raises ConfigurationError: with everything that is wrong.
    """
    if path is None and (named := environment.get(CONFIG_VARIABLE)):
        path = Path(named)
    problems: list[str] = []
    layers = (
        _from_file(path, problems) if path else {},
        _from_credentials(environment.get(CREDENTIALS_VARIABLE), problems),
        _from_words(
            {
                f"environment variable {name}": (place, environment.get(name) or None)
                for name, place in ENVIRONMENT.items()
            },
            problems,
        ),
        _from_words(
            {"option --" + name.replace("_", "-"): (OPTIONS[name], word) for name, word in command_line.items()},
            problems,
        ),
    )
    said = {place: each for layer in layers for place, each in layer.items()}
    problems.extend(_ambiguities(layers))
    problems.extend(_unusable_certificate(said))
    problems.extend(_unusable_upstreams(said))
    if problems:
        raise ConfigurationError(problems)
    return _config({place: each.value for place, each in said.items()})


def state_directory(config: Config, environment: Mapping[str, str]) -> Path:
    """
    Where dheera keeps what is its own: as configured, else the first directory that systemd gives
    (``STATE_DIRECTORY``), else ``~/.local/state/dheera``, where the XDG base directory specification has it.

    :raises ConfigurationError: there is no such place.
    """
    if config.store.state_dir is not None:
        return config.store.state_dir
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    try:
        home = Path.home()
    except RuntimeError:
        problem = "this user has no home directory, so there is no place for keys: set DHEERA_AI_STATE_DIR"
        raise ConfigurationError([problem]) from None
    return home / ".local" / "state" / "dheera"


@frozen
class _Said:
    """
    A value that fits its setting, and who said it.
    """

    source: str
    value: Any


_Layer = dict[Place, _Said]


def _from_file(path: Path, problems: list[str]) -> _Layer:
    text = ""
    try:
        text = path.read_bytes().decode()
        document = tomllib.loads(text)
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror})")
    except UnicodeDecodeError as error:
        problems.append(f"{path}: found no UTF-8 at byte {error.start}, wanted a TOML file")
    except RecursionError:
        problems.append(f"{path}: found arrays or tables too deep to be read")
    except ValueError as error:  # TOMLDecodeError; or a NUL in the path, a number of 5000 digits
        end = f"at line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))}, the end"
        problems.append(f"{path}: not valid TOML: {str(error).replace('at end of document', end)}")
    else:
        return _from_document(path, document, problems)
    return {}


def _from_document(path: Path, document: Mapping[str, Any], problems: list[str]) -> _Layer:
    layer: _Layer = {}
    folder = path.absolute().parent
    for place, value in _places(document):
        source = f"{path}: {written(place)}"
        kind = kind_of(place)
        if kind is None:
            problems.append(f"{source}: {unknown(place, value)}")
        elif kind.names_file and isinstance(value, str) and value:
            # So it is found whatever the working directory is: twistd may change it.
            _read(layer, place, _Said(source, str(folder / value)), problems)
        else:
            _read(layer, place, _Said(source, value), problems)
    return layer


def _from_credentials(directory: str | None, problems: list[str]) -> _Layer:
    """
    The layer of secrets that systemd hands over, each in a file named after its setting: ``master_key``,
    ``mistral.api_key``, ``store.url``.
    """
    layer: _Layer = {}
    if not directory:
        return layer
    try:
        files = sorted(Path(directory).iterdir())
    except OSError as error:
        problems.append(f"environment variable {CREDENTIALS_VARIABLE}: {directory} cannot be read ({error.strerror})")
        return layer
    for file in files:
        table, _, key = file.name.rpartition(".")
        kind = kind_of((table, key))
        if kind is None or not kind.hidden:
            continue  # the unit may have credentials for others
        try:
            value = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"credential {file.name}: cannot be read ({kinds.reason(error)})")
        else:
            _read(layer, (table, key), _Said(f"credential {file.name}", value), problems)
    return layer


def _places(document: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    for name, value in document.items():
        if name == UPSTREAMS and isinstance(value, dict):
            for each, table in value.items():
                if isinstance(table, dict):
                    yield from (((f"{UPSTREAMS}.{each}", key), inner) for key, inner in table.items())
                else:
                    yield (UPSTREAMS, each), table
        elif name in TABLES and isinstance(value, dict):
            yield from (((name, key), each) for key, each in value.items())
        else:
            yield ("", name), value


def _from_words(words: Mapping[str, tuple[Place, object]], problems: list[str]) -> _Layer:
    """
    The layer of the environment or of the command line, by who said it.
    """
    layer: _Layer = {}
    for source, (place, word) in words.items():
        value = word
        if place in _NUMBERS and re.fullmatch(r"[0-9]{1,9}", str(word)):
            value = int(str(word))  # there, everything is text
        if value is not None and value is not False:
            _read(layer, place, _Said(source, value), problems)
    return layer


def _read(layer: _Layer, place: Place, said: _Said, problems: list[str]) -> None:
    kind = kind_of(place)
    if kind is None:
        raise KeyError(place)
    try:
        value = kind.read(said.value)
    except kinds.Unfit as unfit:
        problems.append(f"{said.source}: {kind.problem(said.value, unfit)}")
    else:
        if value is not None and value not in ((), {}):
            layer[place] = _Said(said.source, value)


def _ambiguities(layers: Sequence[_Layer]) -> Iterator[str]:
    """
    Endpoints say everything about where to listen. They have the word over an address or certificate
    from a source below; one from their own source, or from above, would be ignored without a word.
    """
    holders = [nth for nth, layer in enumerate(layers) if ("listen", "endpoints") in layer]
    for layer in layers[holders[-1] :] if holders else ():
        for key in "host", "port", "tls_certificate", "tls_key":
            if said := layer.get(("listen", key)):
                endpoints = layers[holders[-1]]["listen", "endpoints"]
                yield (
                    f"{said.source}: found beside endpoints ({endpoints.source}), "
                    "wanted one of the two: endpoints say address, port and certificate themselves"
                )


def _unusable_certificate(said: _Layer) -> Iterator[str]:
    certificate = said.get(("listen", "tls_certificate"))
    key = said.get(("listen", "tls_key"))
    if certificate is None:
        if key is not None:
            yield f"{key.source}: found a key alone, wanted tls_certificate beside it"
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            certificate.value,
            key.value if key else None,
            password=lambda: "",  # else OpenSSL would ask on the terminal
        )
    except (OSError, ValueError) as error:
        yield (
            f"{certificate.source}: found no certificate with its own, unencrypted private key "
            f"({kinds.reason(error)}), wanted both in this file, or the key in the one of tls_key"
        )


def _unusable_upstreams(said: _Layer) -> Iterator[str]:
    """
    What is wrong with upstreams as a whole: an address is missing, a prefix is taken, keys are given in two ways.
    """
    taken = {"mistral": "the one of [mistral]"} | dict.fromkeys(TAKEN, "a part of dheera's own API")
    tables = dict.fromkeys(table for table, _ in said if table == "mistral" or table.startswith(UPSTREAMS + "."))
    for table in tables:
        if (alone := said.get((table, "api_key"))) and (many := said.get((table, "api_keys"))):
            yield f"{alone.source}: found beside api_keys ({many.source}), wanted one of the two"
        if table == "mistral":
            continue
        name = table.partition(".")[2]
        if name == "mistral":
            yield f"[{table}]: found the name of Mistral's own, wanted another one, or [mistral]"
            continue
        if (table, "api_base") not in said:
            yield f"[{table}]: found no api_base, wanted {kinds.API_BASE.wanted}"
        prefix = (said[table, "prefix"].value.strip("/") if (table, "prefix") in said else "") or name
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", prefix):
            yield f"[{table}]: found a name that cannot be its prefix, wanted a prefix beside it: {kinds.PREFIX.wanted}"
        elif prefix in taken:
            yield f'[{table}] prefix: found "/{prefix}", wanted another one, since it is {taken[prefix]}'
        taken[prefix] = f"the one of [{table}]"


def _config(values: Mapping[Place, Any]) -> Config:
    def of(table: str) -> dict[str, Any]:
        return {key: value for (within, key), value in values.items() if within == table}

    return Config(
        **of(""),
        **{name: value(**of(table)) for table, (name, value) in TABLES.items()},
        upstreams={
            table.partition(".")[2]: OtherUpstream(**of(table))
            for table in dict.fromkeys(within for within, _ in values if within.startswith(UPSTREAMS + "."))
        },
    )


_NUMBERS = (("listen", "port"), ("", "workers"))

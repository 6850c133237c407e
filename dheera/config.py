"""
The configuration: defaults < TOML file < environment < command line, as one frozen value.

All that is wrong is told at once, each with its place, what was found and what was wanted.
Reads the files that it is given and nothing else.
"""

from __future__ import annotations

import json
import re
import ssl
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import attrs
from attrs import define, frozen

from dheera import kinds
from dheera.settings import (
    AllowanceSettings,
    Config,
    KeySettings,
    LedgerSettings,
    LimitSettings,
    Listen,
    MetricSettings,
    Mistral,
    RecordSettings,
    SpoolSettings,
    Storage,
)
from dheera.wire.limits import ClientLimits, ServerLimits


@define(eq=False)
class ConfigurationError(Exception):
    """
    The configuration cannot be used.

    :param problems: one sentence each, in the order of the sources; none holds a secret.
    """

    problems: Sequence[str]

    def __str__(self) -> str:
        return "\n".join(self.problems)


# Where a setting stands in the file: its table ("" is the top) and its key.
Place = tuple[str, str]

# Each table of the file: the attribute of Config that it fills, and with what.
TABLES: Mapping[str, tuple[str, type[Any]]] = {
    "listen": ("listen", Listen),
    "mistral": ("mistral", Mistral),
    "keys": ("keys", KeySettings),
    "store": ("store", Storage),
    "records": ("records", RecordSettings),
    "spool": ("spool", SpoolSettings),
    "ledger": ("ledger", LedgerSettings),
    "metrics": ("metrics", MetricSettings),
    "allowances": ("allowances", AllowanceSettings),
    "proxy_limits": ("proxy_limits", LimitSettings),
    "end_user_limits": ("end_user_limits", LimitSettings),
    "limits": ("server_limits", ServerLimits),
    "upstream_limits": ("client_limits", ClientLimits),
}
CONFIG_VARIABLE = "DHEERA_AI_CONFIG"
ENVIRONMENT: Mapping[str, Place] = {
    "MISTRAL_API_KEY": ("mistral", "api_key"),
    "MISTRAL_API_BASE": ("mistral", "api_base"),
    "DHEERA_AI_MASTER_KEY": ("", "master_key"),
    "DATABASE_URL": ("store", "url"),
    "DHEERA_AI_STATE_DIR": ("store", "state_dir"),
    "DHEERA_AI_HOST": ("listen", "host"),
    "DHEERA_AI_PORT": ("listen", "port"),
}
OPTIONS: Mapping[str, Place] = {
    "host": ("listen", "host"),
    "port": ("listen", "port"),
    "listen": ("listen", "endpoints"),
    "demo": ("", "demo"),
    "log_format": ("", "log_format"),
}


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
        source = f"{path}: {_written(place)}"
        kind = SETTINGS.get(place)
        if kind is None:
            problems.append(f"{source}: {_unknown(place, value)}")
        elif kind.names_file and isinstance(value, str) and value:
            # So it is found whatever the working directory is: twistd may change it.
            _read(layer, place, _Said(source, str(folder / value)), problems)
        else:
            _read(layer, place, _Said(source, value), problems)
    return layer


def _places(document: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    for name, value in document.items():
        if name in TABLES and isinstance(value, dict):
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
        if place == ("listen", "port") and re.fullmatch(r"[0-9]{1,9}", str(word)):
            value = int(str(word))  # there, everything is text
        if value is not None and value is not False:
            _read(layer, place, _Said(source, value), problems)
    return layer


def _read(layer: _Layer, place: Place, said: _Said, problems: list[str]) -> None:
    kind = SETTINGS[place]
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


def _config(values: Mapping[Place, Any]) -> Config:
    def of(table: str) -> dict[str, Any]:
        return {key: value for (within, key), value in values.items() if within == table}

    return Config(**of(""), **{name: value(**of(table)) for table, (name, value) in TABLES.items()})


def _written(place: Place) -> str:
    table, key = place
    if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
        key = json.dumps(key)
    return f"[{table}] {key}" if table else key


def _unknown(place: Place, value: object) -> str:
    """
    What is wrong with a place that is none, and what was probably meant: the nearest name there, or else
    the nearest anywhere.
    """
    table, key = place
    if key in TABLES and not table:
        return f"found {kinds.shown(value)}, wanted a table"
    beside = [(each[1], _written(each)) for each in SETTINGS if each[0] == table]
    if not table:
        beside += [(each, f"[{each}]") for each in TABLES]
    for candidates in beside, [(each[1], _written(each)) for each in SETTINGS]:
        if near := get_close_matches(key, [name for name, _ in candidates], n=1):
            meant = " or ".join(written for name, written in candidates if name == near[0])
            return f"found no such setting, did you mean {meant}?"
    return f"found no such setting, wanted one of {', '.join(written for _, written in beside)}"


def _kind(attribute: attrs.Attribute[Any]) -> kinds.Kind:
    # The limits are values of the wire, which knows no configuration: name and default tell.
    if kind := attribute.metadata.get("kind"):
        return cast("kinds.Kind", kind)
    if attribute.name.endswith("_seconds"):
        return kinds.SECONDS
    return kinds.COUNT if isinstance(attribute.default, int) else kinds.AMOUNT


SETTINGS: Mapping[Place, kinds.Kind] = {
    (table, each.name): _kind(each)
    for table, value in [("", Config), *((of, value) for of, (_, value) in TABLES.items())]
    for each in attrs.fields(value)
    if table or each.name not in {name for name, _ in TABLES.values()}
}

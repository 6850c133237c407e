"""
What a setting may be: for each kind the words that tell an operator what is wanted, and the function
that reads it. A setting that names a file is read by opening it; nothing else is looked at.
"""

from __future__ import annotations

import ipaddress
import json
import re
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from attrs import frozen

from dheera import endpoints
from dheera.durations import after
from dheera.keys import Secret, WeightedKey
from dheera.money import Usd


class Unfit(Exception):
    """
    A value does not fit its setting. The text, if any, is told in place of the value.
    """


@frozen
class Kind:
    """
    What a setting wants: in words, and as the function that reads it or raises `Unfit`.

    :param hidden: the value is a secret and is never told.
    :param names_file: the value is a path, to be made absolute before it is read.
    """

    wanted: str
    read: Callable[[Any], object]
    hidden: bool = False
    names_file: bool = False

    def problem(self, value: object, unfit: Unfit) -> str:
        """
        What was found and what was wanted, about a value that `read` refused.
        """
        return f"found {str(unfit) or shown(value, hidden=self.hidden)}, wanted {self.wanted}"


def shown(value: object, *, hidden: bool = False) -> str:
    """
    A value as an operator may have written it, short, on one line, with the name of its type.

    Arrays, tables, and whatever is *hidden* or has no short form are told by their type alone.
    """
    sort = _SORTS.get(type(value), "a date or time")
    if hidden:
        return f"{sort} (not shown)"
    if isinstance(value, str):
        written = json.dumps(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")
        return f"{written} ({sort})"
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= _LARGEST):
        return f"{str(value).lower()} ({sort})"
    return sort


def reason(error: Exception) -> str:
    """
    What OpenSSL says, without its numbers.
    """
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()


_SHOWN = 80
_LARGEST = 2**63 - 1  # TOML promises no more
_SORTS = {
    bool: "a boolean",
    int: "a whole number",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    tuple: "an array",
    dict: "a table",
}
_EPOCH = datetime.fromtimestamp(0, UTC)
_YEAR = 365 * 86400.0  # beyond some weeks more, epoll refuses to wait


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Unfit
    return value


def _whole(lowest: int, highest: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        # To Python true is 1; to an operator it is not.
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise Unfit
        return value

    return read


def _number(highest: float, *, or_zero: bool = False) -> Callable[[object], float]:
    def read(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Unfit
        if not 0 < value <= highest and not (or_zero and value == 0):  # NaN is on neither side
            raise Unfit
        return float(value)

    return read


def _matching(pattern: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise Unfit
        return value

    return read


def _host(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise Unfit from None
    return value


def _endpoints(value: object) -> tuple[str, ...]:
    # The rest of the syntax belongs to Twisted's parsers, which want a reactor.
    if not isinstance(value, list | tuple):
        raise Unfit
    endpoint = _matching(r"[A-Za-z0-9]+:[^\x00-\x1f\x7f]+")
    for each in value:
        try:
            endpoint(each)
        except Unfit:
            raise Unfit(f"{shown(each)} among them") from None
    return tuple(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
        raise Unfit
    return tuple(value)


def _patterns(value: object) -> tuple[str, ...]:
    for each in _texts(value):
        try:
            re.compile(each)
        except re.error as error:
            raise Unfit(f"{shown(each)} among them ({error})") from None
    return _texts(value)


def _networks(value: object) -> tuple[IPv4Network | IPv6Network, ...]:
    networks = []
    for each in _texts(value):
        try:
            networks.append(ipaddress.ip_network(each))
        except ValueError as error:
            raise Unfit(f"{shown(each)} among them ({error})") from None
    return tuple(networks)


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Unfit
    return value


def _tables(value: object) -> Mapping[str, Any]:
    for each in _table(value).values():
        _table(each)
    return _table(value)


def _dollars(value: object) -> Usd:
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise Unfit
    try:
        return Usd.of(value)
    except ValueError as error:
        raise Unfit from error


def _ceilings(value: object) -> Mapping[str, Usd]:
    found = {}
    for name, each in _table(value).items():
        if name not in endpoints.ENDPOINTS:
            raise Unfit(f"{shown(name)} among them, which is none of {', '.join(sorted(endpoints.ENDPOINTS))}")
        try:
            found[name] = _dollars(each)
        except Unfit:
            raise Unfit(f"{shown(each)} for {shown(name)}") from None
    return found


def _unless_empty(read: Callable[[object], object]) -> Callable[[object], object]:
    """
    As *read*, but for an empty text, which stands for what is not set.
    """
    return lambda value: None if value == "" else read(value)


def _span(value: object) -> str:
    span = _matching(r".{1,12}")(value)
    try:
        after(_EPOCH, span)
    except ValueError:
        raise Unfit from None
    return span


def _api_base(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit
    if "://" not in value:
        # Somebody may have mixed it up with the key.
        raise Unfit("a text that does not begin with http:// or https:// (not shown)")
    for mark, meaning in ("@", "user name or password"), ("?", "query"), ("#", "fragment"):
        if mark in value:
            raise Unfit(f'a URL with a {meaning} ("{mark}"; not shown, it may be secret)')
    if not re.fullmatch(_BASE, value):
        raise Unfit
    try:
        parts = urlsplit(value)
        (parts.hostname or "").encode("idna")  # as the wire will
        usable = parts.port != 0 and not {".", ".."} & set(parts.path.split("/"))
    except ValueError:
        raise Unfit from None
    _host(parts.hostname)
    if not usable:
        raise Unfit
    return value


_BASE = (
    r"(?i:https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~!$&'()*+,;=:%/-]*)?"
)


def _file(value: object) -> Path | None:
    if value == "":
        return None
    path = Path(_matching(r"[^\x00]+")(value))
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise Unfit(f"{shown(value)}, which cannot be read ({error.strerror})") from None


def _directory(value: object) -> Path | None:
    # It is made when it is needed, so it need not be there.
    if value == "":
        return None
    path = Path(_matching(r"[^\x00]+")(value))
    try:
        if path.exists() and not path.is_dir():
            raise Unfit(f"{shown(value)}, which is no directory")
    except OSError as error:
        raise Unfit(f"{shown(value)}, which cannot be looked at ({error.strerror})") from None
    return path.absolute()


def _authorities(value: object) -> Path | None:
    path = _file(value)
    if path is not None:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(path)
            # As wire/authorities.py has them. Of a file, OpenSSL takes some that it does not take of a text.
            context.load_verify_locations(cadata=path.read_text("ascii", "ignore"))
        except OSError as error:
            raise Unfit(f"{shown(value)}, which has no certificates ({reason(error)})") from None
    return path


def _secret(pattern: str) -> Callable[[object], Secret | None]:
    def read(value: object) -> Secret | None:
        return None if value == "" else Secret(_matching(pattern)(value))

    return read


def _keys(value: object) -> tuple[WeightedKey, ...]:
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if not isinstance(value, list | tuple):
        raise Unfit
    try:
        keys = tuple(map(_weighted_key, value))
    except Unfit:
        raise Unfit("an array with other things in it (not shown)") from None
    names = [each.name for each in keys if each.name]
    if len(set(names)) < len(names):
        raise Unfit("an array in which two keys have the same name (not shown)")
    return keys


def _weighted_key(value: object) -> WeightedKey:
    if isinstance(value, str):
        return WeightedKey(_secret(_VISIBLE + "+")(value) or _unfit())
    said = dict(_table(value))
    key = _secret(_VISIBLE + "+")(said.pop("key", None)) or _unfit()
    weight, name = _whole(1, 1000)(said.pop("weight", 1)), _matching(r"[A-Za-z0-9._-]{0,64}")(said.pop("name", ""))
    return _unfit() if said else WeightedKey(key, weight, name)


def _unfit() -> NoReturn:
    raise Unfit


def _workers(value: object) -> object:
    return value if value == "auto" else _whole(1, 1024)(value)


_VISIBLE = "[!-~]"  # without a space: it is sent, and compared, as part of a header line

BOOLEAN = Kind("true or false", _boolean)
PORT = Kind("a whole number from 0 to 65535", _whole(0, 65535))
COUNT = Kind("a whole number above 0", _whole(1, _LARGEST))
AMOUNT = Kind("a number above 0", _number(float(_LARGEST)))
PERCENT = Kind("a whole number from 0 to 100", _whole(0, 100))
DELAY = Kind("a number of seconds, 0 or more and at most a year", _number(_YEAR, or_zero=True))
WORKERS = Kind('a whole number from 1 to 1024, or "auto" for one on each processor', _workers)
PREFIX = Kind(
    "a path segment of small letters, digits, dashes and underscores", _matching(r"/?[a-z0-9][a-z0-9_-]{0,63}|")
)
SECONDS = Kind("a number of seconds above 0 and at most a year", _number(_YEAR))
HOST = Kind("an IP address or a host name", _host)
ENDPOINTS = Kind(
    'Twisted endpoints such as "tcp:4000", "tls:/etc/dheera/tls:443", "unix:/run/dheera.sock" '
    'or "systemd:domain=INET:name=dheera"',
    _endpoints,
)
API_BASE = Kind("an http or https URL with a host, without user, query and fragment", _api_base)
DIRECTORY = Kind("the name of a directory", _directory, names_file=True)
FILE = Kind("the name of a PEM file", _file, names_file=True)
AUTHORITIES = Kind("a PEM file of certificate authorities", _authorities, names_file=True)
SENSITIVE = Kind('"refuse" or "allow"', _matching("refuse|allow"))
LOG_FORMAT = Kind('"text" or "json"', _matching("text|json"))
CONTENT = Kind('"none", "meta" or "full"', _matching("none|meta|full"))
AUTH = Kind('"none" or "admin"', _matching("none|admin"))
NODE = Kind("a short name of letters, digits, dots and dashes", _matching(r"[A-Za-z0-9._-]{0,64}"))
STORE_DOWN = Kind('"refuse" or "allow"', _matching("refuse|allow"))
CLIENT_LEFT = Kind('"abort" or "finish"', _matching("abort|finish"))
DOLLARS = Kind("a number of US dollars, 0 or more", _unless_empty(_dollars))
CEILINGS = Kind("a table of US dollars by endpoint, such as { other = 0.05 }", _ceilings)
SPAN = Kind('a duration such as "24h", "7d", "30d" or "1mo"', _unless_empty(_span))
LIMIT = Kind("a whole number, 0 or more", _unless_empty(_whole(0, _LARGEST)))
DAYS = Kind("a whole number of days, 0 for ever", _whole(0, 36500))
TEXTS = Kind("texts in an array", _texts)
PATTERNS = Kind("regular expressions in an array", _patterns)
NETWORKS = Kind('networks in an array, such as "10.0.0.0/8" or "::1"', _networks)
TABLE = Kind("a table", _table)
TABLES = Kind("a table for each, such as [sinks.files]", _tables)
KEY = Kind("visible ASCII characters without a space", _secret(_VISIBLE + "+"), hidden=True)
KEYS = Kind(
    'keys in an array, such as ["KEY", { key = "KEY", weight = 2, name = "spare" }]',
    _keys,
    hidden=True,
)
DATABASE = Kind(
    "postgresql://user:password@host/name or sqlite:///path/of/file",
    _secret(r"(?i:postgres(ql)?://[!-~]+|sqlite:///[^\x00-\x1f\x7f]+)"),
    hidden=True,
)

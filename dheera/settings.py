"""
What an operator can set: the values that `dheera.config` fills from a file, the environment and the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from dheera import kinds
from dheera.keys import Secret, WeightedKey
from dheera.money import Usd
from dheera.wire.limits import ClientLimits, ServerLimits


@frozen(kw_only=True)
class Listen:
    """
    Where dheera is reached.

    :param port: 0 takes any free port.
    :param endpoints: Twisted endpoint strings; when there are any, they stand in place of all but
        ``open_to_network``.
    :param tls_certificate: PEM file with the certificate and its chain, for host and port.
    :param tls_key: PEM file; ``None`` when the key is in the file of the certificate.
    :param open_to_network: without a master key, serve others than this machine too.
    :param trusted_proxies: networks of proxies before us, whose ``X-Forwarded-For`` is believed.
    """

    host: str = field(default="0.0.0.0", metadata={"kind": kinds.HOST, "fixed": True})
    port: int = field(default=4000, metadata={"kind": kinds.PORT, "fixed": True})
    endpoints: tuple[str, ...] = field(default=(), metadata={"kind": kinds.ENDPOINTS, "fixed": True})
    tls_certificate: Path | None = field(default=None, metadata={"kind": kinds.FILE})
    tls_key: Path | None = field(default=None, metadata={"kind": kinds.FILE})
    open_to_network: bool = field(default=False, metadata={"kind": kinds.BOOLEAN})
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = field(default=(), metadata={"kind": kinds.NETWORKS})


@frozen(kw_only=True)
class Mistral:
    """
    The upstream.

    :param api_base: as the operator wrote it: with or without a path prefix, with or without ``/v1``.
    :param api_keys: among which calls are spread by weight; in place of ``api_key``.
    :param ca_file: PEM bundle that is trusted in place of the system's.
    """

    api_base: str = field(default="https://api.mistral.ai", metadata={"kind": kinds.API_BASE})
    api_key: Secret | None = field(default=None, metadata={"kind": kinds.KEY})
    api_keys: tuple[WeightedKey, ...] = field(default=(), metadata={"kind": kinds.KEYS})
    ca_file: Path | None = field(default=None, metadata={"kind": kinds.AUTHORITIES})


@frozen(kw_only=True)
class OtherUpstream:
    """
    A server with Mistral's API that is not Mistral's own, beside it.

    :param prefix: first segment of the path at which clients find it here; empty is the table's name.
    :param api_key: ``None`` sends no credential.
    :param priced: its calls cost what `dheera.prices` says; else they are free.
    """

    api_base: str = field(default="", metadata={"kind": kinds.API_BASE})
    prefix: str = field(default="", metadata={"kind": kinds.PREFIX})
    api_key: Secret | None = field(default=None, metadata={"kind": kinds.KEY})
    api_keys: tuple[WeightedKey, ...] = field(default=(), metadata={"kind": kinds.KEYS})
    ca_file: Path | None = field(default=None, metadata={"kind": kinds.AUTHORITIES})
    priced: bool = field(default=True, metadata={"kind": kinds.BOOLEAN})


@frozen(kw_only=True)
class BalanceSettings:
    """
    How upstream's keys are used, and when a call is sent again.

    :param retries: how often one call may be sent again.
    :param retry_percent: of all calls that may be sent again.
    :param retry_wait_seconds: longest ``retry-after`` that is waited for where no other key is free.
    :param benched_seconds: how long a key rests that upstream does not know; twice as long each time, up to an hour.
    :param failures: answers of 5xx in a row after which a key is taken out.
    :param ejected_seconds: for how long; then one call tries it.
    """

    retries: int = field(default=2, metadata={"kind": kinds.LIMIT})
    retry_percent: int = field(default=20, metadata={"kind": kinds.PERCENT})
    retry_wait_seconds: float = field(default=2.0, metadata={"kind": kinds.DELAY})
    benched_seconds: float = field(default=60.0, metadata={"kind": kinds.SECONDS})
    failures: int = field(default=5, metadata={"kind": kinds.COUNT})
    ejected_seconds: float = field(default=30.0, metadata={"kind": kinds.SECONDS})


@frozen(kw_only=True)
class KeySettings:
    """
    How virtual keys are checked and managed.

    :param sensitive_routes: whether virtual keys may call the endpoints that hand out other credentials.
    :param strict_fields: management calls with fields that are not known are refused, and name them.
    :param cached: how many keys are kept at hand.
    :param away_seconds: how long keys that are at hand go on working while the database is away.
    :param inspected_bytes: largest body that is read for the model that it names; only for keys that have a model list.
    :param inspected_together_bytes: of all such bodies together, as long as they are here.
    :param wrong_keys: how many unknown keys one address may send before it is slowed down.
    """

    sensitive_routes: Literal["refuse", "allow"] = field(default="refuse", metadata={"kind": kinds.SENSITIVE})
    strict_fields: bool = field(default=False, metadata={"kind": kinds.BOOLEAN})
    cached: int = field(default=10_000, metadata={"kind": kinds.COUNT})
    away_seconds: float = field(default=3600.0, metadata={"kind": kinds.SECONDS})
    inspected_bytes: int = field(default=32 * 1024 * 1024, metadata={"kind": kinds.COUNT})
    inspected_together_bytes: int = field(default=256 * 1024 * 1024, metadata={"kind": kinds.COUNT})
    wrong_keys: int = field(default=20, metadata={"kind": kinds.COUNT})


@frozen(kw_only=True)
class Storage:
    """
    Where dheera keeps what it must not forget.

    :param url: ``postgresql://...`` or ``sqlite:///path``; ``None`` is an SQLite file in the state directory.
    :param state_dir: where dheera keeps what is its own; ``None`` leaves it to `state_directory`.
    :param connections: open at once to PostgreSQL, besides the one that listens.
    :param patience_seconds: how long an answer of the database is waited for.
    """

    url: Secret | None = field(default=None, metadata={"kind": kinds.DATABASE, "fixed": True})
    state_dir: Path | None = field(default=None, metadata={"kind": kinds.DIRECTORY, "fixed": True})
    connections: int = field(default=8, metadata={"kind": kinds.COUNT, "fixed": True})
    patience_seconds: float = field(default=5.0, metadata={"kind": kinds.SECONDS, "fixed": True})


@frozen(kw_only=True)
class RecordSettings:
    """
    What is said of each call.

    :param content: how much of what calls are about may be recorded at all; a sink or a key may ask for less.
    :param content_bytes: of each body that is recorded, at most.
    :param redact_paths: members of JSON bodies that are not shown: ``messages[*].content``, ``$..email``.
    :param redact_patterns: regular expressions; what matches is not shown.
    :param node: the name of this dheera; empty is the name of the machine.
    """

    content: Literal["none", "meta", "full"] = field(default="meta", metadata={"kind": kinds.CONTENT})
    content_bytes: int = field(default=64 * 1024, metadata={"kind": kinds.COUNT})
    redact_paths: tuple[str, ...] = field(default=(), metadata={"kind": kinds.TEXTS})
    redact_patterns: tuple[str, ...] = field(default=(), metadata={"kind": kinds.PATTERNS})
    node: str = field(default="", metadata={"kind": kinds.NODE, "fixed": True})


@frozen(kw_only=True)
class SpoolSettings:
    """
    The durable queue between the calls and what is told of them.

    :param max_bytes: that it may take on the disk.
    :param segment_bytes: of one of its files.
    :param fsync_seconds: how often what was written is brought to the disk: what a loss of power may cost.
    """

    max_bytes: int = field(default=1024 * 1024 * 1024, metadata={"kind": kinds.COUNT, "fixed": True})
    segment_bytes: int = field(default=8 * 1024 * 1024, metadata={"kind": kinds.COUNT, "fixed": True})
    fsync_seconds: float = field(default=1.0, metadata={"kind": kinds.SECONDS, "fixed": True})


@frozen(kw_only=True)
class LedgerSettings:
    """
    What is kept of each call, and for how long.

    :param keep_days: after which a line is deleted; the daily sums stay. 0 keeps all.
    :param delay_seconds: how long lines wait to be written together.
    """

    keep_days: int = field(default=396, metadata={"kind": kinds.DAYS, "fixed": True})
    delay_seconds: float = field(default=0.2, metadata={"kind": kinds.SECONDS, "fixed": True})


@frozen(kw_only=True)
class AllowanceSettings:
    """
    How budgets and limits are held to.

    :param when_store_down: whether keys with limits go on while the database is away, so that nobody counts.
    :param on_client_left: whether a call whose client has left is broken off, or read to its end for its usage.
    :param deadline_seconds: after which what a dead process held is given back, or counted as used.
    :param output_tokens: that a call without ``max_tokens`` is expected to answer, where tokens per minute are limited.
    :param ocr_pages: that a document of unknown length may have.
    :param audio_seconds: that audio of unknown length may last.
    :param conversation_steps: how often a conversation may ask its model within one call, as connectors do.
    :param ceilings: US dollars that a call may cost where nothing else tells, by endpoint (`endpoints`).
    """

    when_store_down: Literal["refuse", "allow"] = field(default="refuse", metadata={"kind": kinds.STORE_DOWN})
    on_client_left: Literal["abort", "finish"] = field(default="abort", metadata={"kind": kinds.CLIENT_LEFT})
    deadline_seconds: float = field(default=60.0, metadata={"kind": kinds.SECONDS, "fixed": True})
    output_tokens: int = field(default=4096, metadata={"kind": kinds.COUNT})
    ocr_pages: int = field(default=1000, metadata={"kind": kinds.COUNT})
    audio_seconds: int = field(default=10_800, metadata={"kind": kinds.COUNT})
    conversation_steps: int = field(default=10, metadata={"kind": kinds.COUNT})
    ceilings: Mapping[str, Usd] = field(factory=dict, metadata={"kind": kinds.CEILINGS})


@frozen(kw_only=True)
class LimitSettings:
    """
    Limits that are no key's: of the whole proxy, or of each end user who has none of their own.

    :param budget_duration: as in the key API; ``None``: the budget never begins anew.
    """

    max_budget: Usd | None = field(default=None, metadata={"kind": kinds.DOLLARS})
    soft_budget: Usd | None = field(default=None, metadata={"kind": kinds.DOLLARS})
    budget_duration: str | None = field(default=None, metadata={"kind": kinds.SPAN})
    rpm_limit: int | None = field(default=None, metadata={"kind": kinds.LIMIT})
    tpm_limit: int | None = field(default=None, metadata={"kind": kinds.LIMIT})
    max_parallel_requests: int | None = field(default=None, metadata={"kind": kinds.LIMIT})


@frozen(kw_only=True)
class MetricSettings:
    """
    Who may read ``/metrics``.

    :param auth: ``admin`` wants the master key, or a key that may look.
    """

    auth: Literal["none", "admin"] = field(default="none", metadata={"kind": kinds.AUTH})


@frozen(kw_only=True)
class Config:
    """
    Everything that an operator can set. The nested values are the tables of the TOML file.

    :param demo: serve from the built-in stand-in for Mistral.
    :param workers: how many processes serve.
    :param stop_delay_seconds: how long a stop goes on serving, not ready any more, before it listens no longer.
    :param drain_seconds: how long a stop waits then for the exchanges that are under way.
    :param master_key: ``None`` is open mode.
    :param proxy_limits: for all calls together.
    :param end_user_limits: for each end user who is no customer, or one without limits.
    :param sinks: where records go, by their names; what each table may say, `dheera.sinks.catalogue` knows.
    :param upstreams: other servers beside Mistral's, by their names.
    :param prices: what goes before our own price list, by models; `dheera.prices` reads it.
    """

    log_format: Literal["text", "json"] = field(default="text", metadata={"kind": kinds.LOG_FORMAT, "fixed": True})
    demo: bool = field(default=False, metadata={"kind": kinds.BOOLEAN, "fixed": True})
    workers: int | Literal["auto"] = field(default=1, metadata={"kind": kinds.WORKERS, "fixed": True})
    stop_delay_seconds: float = field(default=0.0, metadata={"kind": kinds.DELAY})
    drain_seconds: float = field(default=30.0, metadata={"kind": kinds.SECONDS})
    master_key: Secret | None = field(default=None, metadata={"kind": kinds.KEY})
    listen: Listen = field(factory=Listen)
    mistral: Mistral = field(factory=Mistral)
    balance: BalanceSettings = field(factory=BalanceSettings)
    keys: KeySettings = field(factory=KeySettings)
    store: Storage = field(factory=Storage)
    records: RecordSettings = field(factory=RecordSettings)
    spool: SpoolSettings = field(factory=SpoolSettings)
    ledger: LedgerSettings = field(factory=LedgerSettings)
    metrics: MetricSettings = field(factory=MetricSettings)
    allowances: AllowanceSettings = field(factory=AllowanceSettings)
    proxy_limits: LimitSettings = field(factory=LimitSettings)
    end_user_limits: LimitSettings = field(factory=LimitSettings)
    server_limits: ServerLimits = field(factory=ServerLimits)
    client_limits: ClientLimits = field(factory=ClientLimits)
    upstreams: Mapping[str, OtherUpstream] = field(factory=dict, metadata={"kind": kinds.TABLES})
    sinks: Mapping[str, Mapping[str, Any]] = field(factory=dict, repr=False, metadata={"kind": kinds.TABLES})
    prices: Mapping[str, Any] = field(factory=dict, metadata={"kind": kinds.TABLE})

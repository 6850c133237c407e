"""
What is unwise in a configuration that can be used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dheera.choices import secrets_of
from dheera.commands.checkup.findings import Finding
from dheera.keys import SHORTEST
from dheera.settings import Config

NAME = "configuration"
_MAKE = "python3 -c 'import secrets; print(\"sk-\" + secrets.token_urlsafe(24))'"
_OTHERS_READ = 0o004


def judged_settings(config: Config, file: Path | None, place_of_keys: str) -> Iterator[Finding]:
    """
    What is unwise in it, or that nothing is.

    :param file: that it was read from, among other sources; ``None`` if from none.
    """
    found = [*_doubts(config), *_readable(config, file)]
    yield from found
    if not found:
        mode = "open to this machine alone" if config.master_key is None else "with a master key"
        yield Finding.ok(NAME, f"{mode}, keys and the ledger in {place_of_keys}")


def _doubts(config: Config) -> Iterator[Finding]:
    if config.master_key is not None:
        if len(config.master_key.reveal()) < SHORTEST:
            mend = f"Make a long one: {_MAKE}."
            yield Finding.warn(NAME, "the master key is short, and whoever guesses it may do everything", mend)
        return
    if config.listen.open_to_network and not config.demo:
        mend = "Set DHEERA_AI_MASTER_KEY, and give each developer a key; or take open_to_network away."
        yield Finding.warn(NAME, "there is no master key, so whoever reaches this machine spends your money", mend)
    if config.store.url is not None:
        mend = "Set DHEERA_AI_MASTER_KEY, or take DATABASE_URL away."
        yield Finding.warn(NAME, "DATABASE_URL is set, but without a master key no key is made or checked", mend)


def _readable(config: Config, file: Path | None) -> Iterator[Finding]:
    with suppress(OSError, UnicodeDecodeError):
        if file is None or not file.stat().st_mode & _OTHERS_READ:
            return
        text = file.read_text("utf-8")
        if any(secret in text for secret in secrets_of(config)):
            mend = f"chmod o-r {file}; or keep secrets in the environment, or in systemd's credentials."
            yield Finding.warn(NAME, f"{file} holds a secret, and everybody on this machine may read it", mend)

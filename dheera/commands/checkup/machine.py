"""
What the daemon needs of its machine: a disk with room, open files, a certificate that has not ended. Files block.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from OpenSSL import crypto

from dheera.choices import FOLDER
from dheera.commands.checkup.findings import Finding
from dheera.descriptors import made_room
from dheera.settings import Config, SpoolSettings

STATE = "state directory"
DISK = "disk"
FILES = "open files"
LEAST_BYTES = 64 * 1024 * 1024
"""
With less, what is written at any moment may be the last: a file of the spool, and SQLite's beside its own.
"""
STORE_BYTES = 256 * 1024 * 1024
"""
Enough for the ledger of some weeks.
"""
WARN_DAYS = 14
_PROBE_BYTES = 4096
_WHOSE = "this command, and a daemon started where it was,"
_SERVICES = "a service or a container has its own limit"
_MOST_FILES = 2**31  # no kernel allows more (proc(5), nr_open)


def look_at_state(folder: Path, spool: SpoolSettings, lanes: int, user: int) -> Sequence[Finding]:
    """
    Whether the state directory can be written, and its disk has room for the spool.

    :param lanes: how many processes each have one.
    :param user: who looks.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    problem = _unwritable(there, is_whole=there == folder)
    if problem:
        mend = "Let the user of dheera write there, or set DHEERA_AI_STATE_DIR."
        return [Finding.fail(STATE, f"{folder} cannot be written: {problem}", mend)]
    wanted = max(0, spool.max_bytes * lanes - _size(folder / FOLDER))
    disk = os.statvfs(there)
    # Some file systems do not count inodes.
    has_inodes = disk.f_favail > 0 or not disk.f_files
    found = judged_disk(there, shutil.disk_usage(there).free, wanted, has_inodes=has_inodes)
    return [_state(folder, there, user), found]


def _state(folder: Path, there: Path, user: int) -> Finding:
    if there != folder:
        return Finding.ok(STATE, f"{folder}, not there yet: the first start makes it")
    owner = there.stat().st_uid
    if owner != user:
        mend = "Run doctor as that user to see what dheera sees: sudo -u, or systemd-run with the unit's settings."
        return Finding.warn(STATE, f"{folder} is user {owner}'s, and this is user {user}", mend)
    return Finding.ok(STATE, f"{folder} can be written")


def _unwritable(folder: Path, *, is_whole: bool) -> str:
    """
    Why nothing can be written there; empty if it can.

    :param is_whole: it is the directory itself, and not one above it.
    """
    if not folder.is_dir():
        return f"{folder} is not a directory"
    try:
        if not is_whole:
            # What a user may do does not tell what the file system lets them: in /proc root makes nothing.
            with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-"):
                return ""
        # Without a name where the system lets us, and taken away in any case.
        with tempfile.TemporaryFile(dir=folder, prefix=".doctor-") as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        why = error.strerror or type(error).__name__
        return why if is_whole else f"it cannot be made in {folder} ({why})"
    return ""


def _size(folder: Path) -> int:
    total = 0
    for each in folder.rglob("*"):
        try:
            total += each.stat().st_size
        except OSError:  # it went meanwhile, as files of the spool do
            continue
    return total


def judged_disk(folder: Path, free: int, wanted: int, *, has_inodes: bool = True) -> Finding:
    """
    Whether so many bytes are enough for a spool.

    :param wanted: by which it may grow.
    """
    words = f"{_megabytes(free)} free at {folder}"
    if not has_inodes:
        return Finding.fail(DISK, f"{words}, but no file can be made: no inode is left", "Delete what is not needed.")
    if free < LEAST_BYTES:
        return Finding.fail(DISK, words, "Make room now: calls that cannot be written down are refused with 503.")
    words = f"{words}, and the spool may grow by {_megabytes(wanted)}"
    if free < wanted:
        return Finding.warn(DISK, words, "Make room, or lower [spool] max_bytes: a full disk refuses calls too.")
    return Finding.ok(DISK, words)


def look_at_room(file: Path) -> Sequence[Finding]:
    """
    Whether the disk of an SQLite file has room for the ledger.
    """
    folder = next((each for each in file.parents if each.exists()), Path("/"))
    free = shutil.disk_usage(folder).free
    words = f"{_megabytes(free)} free at {folder}, for the ledger"
    mend = "Make room, or keep fewer days of the ledger: [ledger] keep_days, dheera_ai prune."
    if free < LEAST_BYTES:
        return [Finding.fail(DISK, words, mend)]
    return [Finding.warn(DISK, words, mend) if free < STORE_BYTES else Finding.ok(DISK, words)]


def judged_files(config: Config, hard: int) -> Finding:
    """
    Whether so many open files are enough for what the configuration lets clients do.
    """
    if hard == resource.RLIM_INFINITY or not made_room(config, hard).describe():
        limit = "any number" if hard == resource.RLIM_INFINITY else str(hard)
        return Finding.ok(FILES, f"{_WHOSE} may have {limit}, which is enough; {_SERVICES}")
    enough = bisect_left(range(_MOST_FILES), 1, lo=hard, key=lambda files: not made_room(config, files).describe())
    found = f"{_WHOSE} may have {hard}, and [limits] connections and requests need {enough}"
    mend = (
        f"Allow more (LimitNOFILE={enough} in the unit, ulimit -Hn, --ulimit nofile of a container), or lower those "
        f"limits, as dheera does by itself otherwise. As to what it may have, {_SERVICES}."
    )
    return Finding.warn(FILES, found, mend)


def judged_certificate(file: Path, moment: datetime) -> Finding:
    """
    How long the certificate lasts that clients are shown.
    """
    name = "certificate"
    end = crypto.load_certificate(crypto.FILETYPE_PEM, file.read_bytes()).get_notAfter() or b""
    until = datetime.strptime(end.decode(), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    days = (until - moment).total_seconds() / 86400
    mend = "Renew it, and put it in the same file: a running dheera takes it from there by itself."
    if days < 0:
        return Finding.fail(name, f"{file} has ended on {until:%Y-%m-%d}", mend)
    words = f"{file} ends on {until:%Y-%m-%d}"
    return Finding.warn(name, words, mend) if days < WARN_DAYS else Finding.ok(name, words)


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MiB"

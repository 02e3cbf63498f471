"""Runs of `isoclip embed --store` in processes of their own, to be killed, and what they leave."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.mongod import free_port
from tests.terminal import PROGRAM

PATIENCE = 240.0
"""Seconds after which something hangs: a model is loaded and a Ray begun, on a busy machine."""


@contextmanager
def quiet_ray() -> Iterator[dict[str, str]]:
    """The environment of processes that begin a Ray: its files in a folder that is removed."""
    # Sockets lie in there, whose paths may be 107 bytes long.
    folder = tempfile.mkdtemp(prefix="isoclip-ray-", dir="/tmp")
    own = {
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # or Ray keeps one in the user's home
        "OMP_NUM_THREADS": "1",
    }
    yield {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | own
    shutil.rmtree(folder, ignore_errors=True)


def command(images: Path, store: Path, engine: str, *more: str) -> list[str]:
    words = ["embed", str(images), "--store", str(store), "--engine", engine, "--shard-rows", "2"]
    return [*PROGRAM, *words, "--device", "cpu", "--precision", "float32", *more]


class Run:
    """A run that can be watched and killed."""

    def __init__(self, words: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                words, env=environment, stdout=file, stderr=subprocess.STDOUT
            )
        self._seen: dict[int, psutil.Process] = {}

    def until(self, met) -> None:
        """Wait for a condition while it runs."""
        deadline = time.monotonic() + PATIENCE
        while not met():
            assert self._process.poll() is None, f"it ended too early:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"nothing happens:\n{self.log.read_text()}"
            time.sleep(0.01)

    def workers(self) -> list[psutil.Process]:
        """The processes in which Ray runs workers of ours."""
        return [each for each in self._children() if _title(each).startswith("ray::MapWorker")]

    def kill(self) -> None:
        """SIGKILL the driver; its workers end by themselves, or they would go on."""
        workers = self.workers()
        self._process.kill()
        self._process.wait()
        assert psutil.wait_procs(workers, timeout=PATIENCE)[1] == []

    def end(self) -> int:
        """Wait for its end; -> the exit code."""
        return self._process.wait(PATIENCE)

    def clean(self) -> None:
        """Leave nothing running, however a test ended."""
        for each in [*self._children(), *self._seen.values()]:
            if each.is_running():
                each.kill()
        self._process.kill()
        self._process.wait()

    def _children(self) -> list[psutil.Process]:
        if self._process.poll() is not None:
            return []
        found = psutil.Process(self._process.pid).children(recursive=True)
        self._seen |= {each.pid: each for each in found}
        return found


@contextmanager
def running(words: list[str], environment: dict[str, str], log: Path) -> Iterator[Run]:
    run = Run(words, environment, log)
    try:
        yield run
    finally:
        run.clean()


@contextmanager
def cluster(environment: dict[str, str], log: Path) -> Iterator[dict[str, str]]:
    """The head of a cluster, begun as a user begins one; -> the environment of who works on it.

    It has one core, and runs in the folder and under the token of the environment.
    """
    port, clients = free_port(), free_port()
    words = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    words += ["--port", str(port), "--ray-client-server-port", str(clients), "--num-cpus", "1"]
    words += ["--include-dashboard", "false", "--object-store-memory", str(100 * 2**20)]
    words += ["--temp-dir", environment["RAY_TMPDIR"]]
    with running(words, environment, log) as head:
        head.until(lambda: "Ray runtime started" in log.read_text())
        (address,) = re.findall(r"ray start --address='(.+)'", log.read_text())
        yield environment | {"RAY_ADDRESS": address}


def shards(store: Path) -> int:
    """How many shards are in their place."""
    return len(list((store / "shards").glob("*.parquet"))) if store.exists() else 0


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""

"""A worker's claim on its share of a library, so that two workers do not make the same volumes.

A worker keeps one file, ``workers/<shard>-<token>.json``, and rewrites it every few seconds. One that finds another's
on the same volumes watches it: while it changes, somebody is at work there. What two machines' clocks say does not
matter. Of two that begin in the same moment one gives way, or both; the next try settles it.

A claim guards against doing work twice, not against damage: a volume is one object, written whole, and the same to the
byte whoever writes it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from mdiff_client.library.shards import Shard
from mdiff_client.storage import Storage
from mdiff_core import BusyError, MdiffError

_logger = logging.getLogger(__name__)

WORKERS = "workers"
BEAT_SECONDS = 5.0
_MISSED_BEATS = 4
_BEATS_TO_FAIL = 6


class Lease:
    """The claim of one worker on a shard, for as long as the context lasts.

    Args:
        storage: of the library.
        shard: the worker's share.
        count: volumes of the library.
        beat_seconds: how often the claim is renewed.

    Raises:
        BusyError: on entering, another worker is at work on some of the same volumes.
        DataError, UnavailableError: from the storage.
    """

    def __init__(self, storage: Storage, shard: Shard, count: int, beat_seconds: float = BEAT_SECONDS) -> None:
        self._storage, self._shard, self._count, self._seconds = storage, shard, count, beat_seconds
        self._name = f"{shard.i:06d}-of-{shard.n:06d}-{uuid.uuid4().hex}.json"
        self._beats = 0
        self._over, self._lost = threading.Event(), threading.Event()
        self._reason: MdiffError | None = None
        self._thread = threading.Thread(target=self._keep, name="mdiff-lease", daemon=True)

    def __enter__(self) -> Lease:
        self._beat()
        try:
            self._give_way()
        except BaseException:
            self._storage.delete(self._key)
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        try:
            self._storage.delete(self._key)
        except MdiffError as left:  # it lapses by itself, and would hide how the run went
            _logger.info("claim left behind", extra={"figures": {"error": str(left)}})

    def check(self) -> None:
        """Go on only while the claim is kept.

        Raises:
            BusyError: another worker took it for lapsed.
            DataError, UnavailableError: it cannot be renewed.
        """
        if self._reason:
            raise self._reason

    @property
    def _key(self) -> str:
        return f"{WORKERS}/{self._name}"

    def _beat(self) -> None:
        self._beats += 1
        self._storage.write(self._key, json.dumps({**_self(), "beat": self._beats}))

    def _keep(self) -> None:
        failed = 0
        while not self._over.wait(self._seconds):
            try:
                if self._storage.read(self._key) is None:
                    self._reason = BusyError(
                        f"{self._storage.location}: another worker took this one for lost, which was frozen or cut off "
                        "from the store: run the same command again"
                    )
                    return
                self._beat()
                failed = 0
            except MdiffError as error:
                failed += 1
                if failed == _BEATS_TO_FAIL:
                    self._reason = error
                    return

    def _give_way(self) -> None:
        others = [
            name
            for name, shard in _claims(self._storage)
            if name != self._name and self._shard.overlaps(shard, self._count)
        ]
        seen = {name: self._storage.read(f"{WORKERS}/{name}") for name in others}
        deadline = time.monotonic() + _MISSED_BEATS * self._seconds
        while seen:
            for name, text in list(seen.items()):
                now = self._storage.read(f"{WORKERS}/{name}")
                if now is None:
                    del seen[name]
                elif now != text:
                    raise BusyError(self._busy(now))
                elif _is_dead(now) or time.monotonic() > deadline:
                    self._storage.delete(f"{WORKERS}/{name}")
                    del seen[name]
                elif _is_alive(now):
                    raise BusyError(self._busy(now))
            if seen:
                self._beat()
                time.sleep(self._seconds / 2)

    def _busy(self, text: str) -> str:
        other = _parsed(text)
        return (
            f"{self._storage.location}: a worker on {other.get('host', 'another machine')} (process "
            f"{other.get('pid', '?')}) is making volumes of shard {self._shard.i}/{self._shard.n}: wait until it is "
            "done, or stop it"
        )


def at_work(storage: Storage) -> list[str]:
    """Claims of workers, alive or not yet known to be lost, as ``shard 3/16 on HOST``."""
    found = []
    for name, shard in _claims(storage):
        text = storage.read(f"{WORKERS}/{name}")
        if text is not None and not _is_dead(text):
            found.append(f"shard {shard.i}/{shard.n} on {_parsed(text).get('host', 'another machine')}")
    return found


def _claims(storage: Storage) -> Iterator[tuple[str, Shard]]:
    """Files of claims, and of which shards; network file systems put others between them, as ``.nfs0001``."""
    for name in storage.names(WORKERS):
        if match := re.fullmatch(r"(\d+)-of-(\d+)-\w+\.json", name):
            yield name, Shard(int(match[1]), int(match[2]))


def _self() -> dict[str, Any]:
    return {"host": socket.gethostname(), "system": _system(), "pid": os.getpid(), "started": _started(os.getpid())}


def _is_dead(text: str) -> bool:
    """Whether the process of a claim ran on this machine and is gone."""
    other = _parsed(text)
    return other.get("system") == _system() != "" and _started(int(other["pid"])) != other["started"]


def _is_alive(text: str) -> bool:
    """Whether it runs on this machine, now."""
    other = _parsed(text)
    return other.get("system") == _system() != "" and _started(int(other["pid"])) == other["started"]


def _parsed(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {}  # nobody's: it lapses


def _system() -> str:
    """What tells process numbers apart: this boot of this machine and, in containers, the space of its processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did; a number is used again, but not with the same one.

    Empty where it is gone, also where its parent has not yet asked how it ended.
    """
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else others[18]

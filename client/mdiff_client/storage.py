"""Where a store lies: a folder, or a prefix of an object store as ``s3://bucket/name.zarr``.

All goes through zarr's stores, which write an object whole or not at all.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from mdiff_core import DataError, UnavailableError, UsageError
from mdiff_core.extras import install
from mdiff_core.outputs import check_new

# botocore's own are a minute each; s3fs tries five times besides.
_S3_OPTIONS = {"config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 1}}}
_LONGEST_SECONDS = 120.0
"""Of one operation with all its tries: botocore's time-outs leave out some waits, as for "100 Continue"."""

READS_AT_ONCE = 32


@dataclass(frozen=True)
class Storage:
    """A place for one store.

    Attributes:
        location: a path, or ``s3://bucket/name.zarr``.
    """

    location: str

    @property
    def path(self) -> Path | None:
        """The folder on this machine; None for an object store."""
        return None if "://" in self.location else Path(self.location)

    @cached_property
    def zarr(self) -> Store:
        """For zarr to read and write.

        Raises:
            UsageError: neither a folder nor a bucket, or the package for buckets is not installed.
        """
        if self.path is not None:
            return LocalStore(self.path)
        if not self.location.startswith("s3://"):
            raise UsageError(f"{self.location}: a store is a folder, or lies in a bucket, as s3://bucket/name.zarr")
        try:
            return _InTime(FsspecStore.from_url(self.location, storage_options=_S3_OPTIONS))
        except (ImportError, ValueError) as error:
            raise UsageError(f"{self.location}: {error}; s3:// needs {install('s3')}") from error

    def exists(self) -> bool:
        """Whether a store was created here."""
        return self.read("zarr.json") is not None

    def check_new(self) -> None:
        """Refuse a place that is taken.

        Raises:
            UsageError: something is there.
            DataError: it may not be looked into.
            UnavailableError: the object store does not answer.
        """
        if self.path is not None:
            check_new(self.path)
        elif self.names(""):
            raise UsageError(f"{self.location} exists: choose another name, or remove it first")

    def read(self, key: str) -> str | None:
        """A text; None where there is none.

        Raises:
            DataError: it may not be read.
            UnavailableError: the object store does not answer.
        """
        with self.guarded("read"):
            if self.path is not None and not self.path.is_dir():
                return None  # zarr would make the folder
            found = sync(self.zarr.get(key, default_buffer_prototype()))
        return None if found is None else _text(found)

    def read_many(self, keys: Sequence[str]) -> list[str | None]:
        """Texts, several at a time; None where there is none.

        Raises:
            DataError: one may not be read.
            UnavailableError: the object store does not answer.
        """
        prototype, at_once = default_buffer_prototype(), asyncio.Semaphore(READS_AT_ONCE)

        async def read(key: str) -> Buffer | None:
            async with at_once:
                return await self.zarr.get(key, prototype)

        async def all_read() -> list[Buffer | None]:
            return await asyncio.gather(*map(read, keys))

        with self.guarded("read"):
            found = sync(all_read())
        return [None if one is None else _text(one) for one in found]

    def write(self, key: str, content: str | bytes) -> None:
        """Write a text or bytes, whole or not at all.

        Raises:
            DataError: it cannot be written.
            UnavailableError: the object store does not answer.
        """
        buffer = default_buffer_prototype().buffer.from_bytes(
            content.encode("utf-8") if isinstance(content, str) else content
        )
        with self.guarded("written"):
            sync(self.zarr.set(key, buffer))

    def delete(self, key: str) -> None:
        """Take a text away, where it is there.

        Raises:
            DataError: it cannot be taken away.
            UnavailableError: the object store does not answer.
        """
        with self.guarded("written"):
            sync(self.zarr.delete(key))

    def names(self, folder: str) -> list[str]:
        """Names in a folder, or with ``""`` at the top, sorted; none where there is no folder.

        Raises:
            DataError: it may not be read.
            UnavailableError: the object store does not answer.
        """

        async def listed() -> list[str]:
            found = [name async for name in self.zarr.list_dir(folder)]
            # A writer that was killed leaves its unfinished file; a folder made by hand in a bucket is an object "".
            return [name for name in found if name and not name.endswith(".partial")]

        with self.guarded("read"):
            return sorted(sync(listed()))

    @contextmanager
    def guarded(self, done: str) -> Iterator[None]:
        """What goes wrong with files and object stores as mdiff's errors; ``done``: read, or written.

        Raises:
            DataError: it cannot be read or written.
            UnavailableError: the object store does not answer.
        """
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error) or f"nothing within {_LONGEST_SECONDS:g} s"
            if self.path is None and not _is_refusal(error):
                raise UnavailableError(f"{self.location}: the object store cannot answer now ({reason})") from error
            raise DataError(f"{self.location}: cannot be {done} ({reason})") from error
        except Exception as error:
            # botocore's errors have no base class that a client without it could name.
            if not type(error).__module__.startswith(("botocore", "aiobotocore", "aiohttp")):
                raise
            reason = " ".join(str(error).split())
            raise UnavailableError(f"{self.location}: the object store does not answer ({reason})") from error


class _InTime(WrapperStore[FsspecStore]):
    """An object store whose every operation ends, if need be with TimeoutError."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        async with asyncio.timeout(_LONGEST_SECONDS):
            return await self._store.get(key, prototype or default_buffer_prototype(), byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        async with asyncio.timeout(_LONGEST_SECONDS):
            await self._store.set(key, value)

    async def delete(self, key: str) -> None:
        async with asyncio.timeout(_LONGEST_SECONDS):
            await self._store.delete(key)

    async def exists(self, key: str) -> bool:
        async with asyncio.timeout(_LONGEST_SECONDS):
            return await self._store.exists(key)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        async with asyncio.timeout(_LONGEST_SECONDS):
            names = [name async for name in self._store.list_dir(prefix)]
        for name in names:
            yield name


def _is_refusal(error: OSError) -> bool:
    """Whether an object store would say the same again; s3fs makes an OSError of "slow down" too."""
    return isinstance(error, PermissionError | FileNotFoundError) or error.errno == errno.EINVAL


def _text(found: Buffer) -> str:
    # What is not UTF-8 is damaged, and no document: whoever parses it says so.
    return found.to_bytes().decode("utf-8", "replace")


def document(text: str, name: str) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        DataError: it is none.
    """
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{name}: not a record; remove it, and the run can be resumed")
    return content


def numbered(kind: str, index: int) -> str:
    """Key of the document of one volume."""
    return f"{kind}/{index:06d}.json"


def numbers(names: list[str]) -> list[int]:
    """Volumes that have a document among these names."""
    # File systems put files of their own between them, such as ._000000.json.
    return sorted(int(name.removesuffix(".json")) for name in names if re.fullmatch(r"\d+\.json", name))

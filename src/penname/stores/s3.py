"""S3 and what speaks its language, through pyarrow: keys and region from where the AWS tools have them, the endpoint from AWS_ENDPOINT_URL."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penname.errors import StoreError, UsageError
from penname.stores.store import RemoteFile, is_wanted, split_location

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

_PIECE_BYTES = 8 * 2**20
_CONNECT_SECS, _SILENT_SECS, _MAX_TRIES = 5, 7, 2
"""Two tries of at most this long each: a silent endpoint is told within 20 seconds."""
_AWS_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? during (\w+) operation: (.*)", re.DOTALL)
_REFUSALS = {
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "SIGNATURE_DOES_NOT_MATCH", "MISSING_AUTHENTICATION_TOKEN",
    "UNRECOGNIZED_CLIENT", "INVALID_SIGNATURE",
}  # fmt: skip


class S3Store:
    """Objects of S3 as files."""

    def __init__(self) -> None:
        from pyarrow import fs

        self._endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        self._system: S3FileSystem = fs.S3FileSystem(
            endpoint_override=self._endpoint,
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ("us-east-1" if self._endpoint else None),
            connect_timeout=_CONNECT_SECS,
            request_timeout=_SILENT_SECS,
            # A small file in one request.
            allow_delayed_open=True,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_MAX_TRIES),
        )

    def find(self, location: str, *, recursive: bool = False) -> list[RemoteFile]:
        """The object at `location`, or the objects of that folder or pattern, sorted by name; empty where there is none.

        Raises:
          StoreError: the store refuses or does not answer.
          UsageError: there is no bucket in the location.
        """
        from pyarrow import fs

        path, pattern = split_location(location)
        if not path.split("/")[0]:
            raise UsageError(f"{location}: names no bucket; write s3://BUCKET/KEY")
        with self._told(location):
            if pattern is None and not recursive:
                info = self._system.get_file_info(path)
                if info.type == fs.FileType.File:
                    return [self._describe(location.rstrip("/"), info.base_name, path, info.size)]
            infos = self._system.get_file_info(fs.FileSelector(path, recursive=recursive, allow_not_found=True))
            found = [(info, info.path.removeprefix(f"{path}/")) for info in infos if info.type == fs.FileType.File]
            wanted = [(info, name) for info, name in found if is_wanted(name, pattern, recursive=recursive)]
            return [self._describe(f"s3://{info.path}", name, info.path, info.size) for info, name in sorted(wanted, key=lambda item: item[1])]

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """The bytes of an object from `start` on.

        Raises:
          StoreError: the store refuses, stops answering, or the object is another one by now.
        """
        path = file.location.split("://", 1)[1]
        with self._told(file.location):
            with self._system.open_input_file(path) as handle:
                handle.seek(start)
                while piece := handle.read(_PIECE_BYTES):
                    yield piece
            if self._version(path) != file.version:
                raise StoreError(f"{file.location}: was changed while it was read; run the same command again")

    def write(self, path: Path, location: str) -> None:
        """Makes a local file an object. It appears whole or not at all.

        Raises:
          StoreError: the store refuses or stops answering.
        """
        with self._told(location), open(path, "rb") as source:
            # Without None, pyarrow compresses what is named .gz once more.
            # A stream that is never closed leaves no object: S3 shows an upload when its last part is confirmed.
            target = self._system.open_output_stream(location.split("://", 1)[1], compression=None)
            while piece := source.read(_PIECE_BYTES):
                target.write(piece)
            target.close()

    def remove(self, location: str) -> None:
        """Removes an object.

        Raises:
          StoreError: the store refuses or does not answer.
        """
        with self._told(location):
            self._system.delete_file(location.split("://", 1)[1])

    def _describe(self, location: str, name: str, path: str, num_bytes: int) -> RemoteFile:
        return RemoteFile(location, name, num_bytes, self._version(path))

    def _version(self, path: str) -> str:
        """The entity tag: every write gives another."""
        with self._system.open_input_stream(path, compression=None) as stream:
            known: Any = stream.metadata()
        return next((_text(known[key]) for key in ("ETag", b"ETag") if key in known), "")

    @contextmanager
    def _told(self, location: str) -> Generator[None]:
        """Turns what the AWS library says into one line."""
        try:
            yield
        except FileNotFoundError:
            raise StoreError(f"{location}: no such object; check the key") from None
        except OSError as error:
            if (found := _AWS_ERROR.search(str(error))) is None:
                raise
            raise StoreError(f"{location}: {self._explain(location, *found.groups())}") from None

    def _explain(self, location: str, code: str, status: str | None, operation: str, detail: str) -> str:
        bucket, place = location.split("://", 1)[1].split("/")[0], self._endpoint or "Amazon S3"
        if code in _REFUSALS or status in ("401", "403"):
            why = "" if code == "ACCESS_DENIED" else f" ({code.replace('_', ' ').lower()})"
            return f"{place} refuses access{why}; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and that they may {_ACTIONS.get(operation, 'use it')}"
        if code in ("REQUEST_EXPIRED", "EXPIRED_TOKEN"):
            return "the credentials have expired; renew AWS_SESSION_TOKEN"
        if code == "NO_SUCH_BUCKET":
            return f"{place} has no bucket {bucket}; check its name and AWS_ENDPOINT_URL"
        if code == "NETWORK_CONNECTION":
            reason = " ".join(detail.rpartition("Details: ")[2].split())
            return f"{place} does not answer ({reason}); check AWS_ENDPOINT_URL and the network, and run the same command again"
        if status in ("301", "307", "400"):
            return f"the bucket {bucket} is in another region; set AWS_REGION to it"
        return f"{place} failed ({code.replace('_', ' ').lower()}{f', HTTP {status}' if status else ''}); run the same command again"


_ACTIONS = {
    "HeadObject": "read it", "GetObject": "read it", "ListObjectsV2": "list it", "HeadBucket": "use the bucket", "DeleteObject": "delete it",
    "PutObject": "write to it", "CreateMultipartUpload": "write to it", "UploadPart": "write to it", "CompleteMultipartUpload": "write to it",
}  # fmt: skip


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

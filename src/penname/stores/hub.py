"""Data sets of the Hugging Face hub, read through `huggingface_hub`: hf://datasets/OWNER/NAME[@REVISION]/PATH."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from penname.errors import StoreError, UsageError
from penname.stores.store import ANSWER_SECS, RemoteFile, answer_within, is_wanted, split_location

_PIECE_BYTES = 8 * 2**20


class HubStore:
    """Files of a data set on the hub. They are read, never written: what a hub shows may be public."""

    def __init__(self) -> None:
        from huggingface_hub import HfFileSystem

        self._endpoint = os.environ.get("HF_ENDPOINT") or None
        # A listing that an earlier store kept would hide a change.
        self._system = HfFileSystem(endpoint=self._endpoint, skip_instance_cache=True, use_listings_cache=False)

    def find(self, location: str, *, recursive: bool = False) -> list[RemoteFile]:
        """The file at `location`, or the files of that folder or pattern, sorted by name; empty where there is none.

        Raises:
          StoreError: the hub refuses or does not answer.
          UsageError: the location names no data set.
        """
        path, pattern = split_location(location)
        if not path.startswith("datasets/") or len(path.split("/")) < 3:
            raise UsageError(f"{location}: names no data set of the hub; write hf://datasets/OWNER/NAME/PATH")
        with self._told(location):
            return answer_within(ANSWER_SECS, lambda: self._find(location, path, pattern, recursive))

    def _find(self, location: str, path: str, pattern: str | None, recursive: bool) -> list[RemoteFile]:
        if pattern is None:
            info = self._system.info(path)
            if info["type"] == "file":
                return [_describe(info, location.rpartition("/")[2])]
        system: Any = self._system
        infos = list(system.find(path, detail=True).values()) if recursive else system.ls(path, detail=True)
        files = [(info, str(info["name"]).removeprefix(f"{path}/")) for info in infos if info["type"] == "file"]
        return [_describe(info, name) for info, name in sorted(files, key=lambda item: item[1]) if is_wanted(name, pattern, recursive=recursive)]

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """The bytes of a file from `start` on.

        Raises:
          StoreError: the hub refuses, stops answering, or the file is another one by now.
        """
        path = file.location.split("://", 1)[1]
        with self._told(file.location):
            handle: Any = self._system.open(path, "rb", block_size=_PIECE_BYTES)
            with handle:
                handle.seek(start)
                while piece := handle.read(_PIECE_BYTES):
                    yield piece
            if _describe(self._system.info(path), file.name).version != file.version:
                raise StoreError(f"{file.location}: was changed while it was read; run the same command again")

    @contextmanager
    def _told(self, location: str) -> Generator[None]:
        """Turns what the hub's library says into one line."""
        from huggingface_hub import errors

        place = self._endpoint or "the Hugging Face hub"
        try:
            yield
        except errors.OfflineModeIsEnabled:
            raise StoreError(f"{location}: HF_HUB_OFFLINE is set; unset it, or fetch the file by other means") from None
        except errors.GatedRepoError:
            raise StoreError(f"{location}: its owner gives access on request; ask on its page, then set HF_TOKEN") from None
        except (errors.RepositoryNotFoundError, errors.DisabledRepoError):
            raise StoreError(f"{location}: {place} shows no such data set; check the name, and set HF_TOKEN if it is private") from None
        except errors.RevisionNotFoundError:
            raise StoreError(f"{location}: the data set has no such revision") from None
        except (FileNotFoundError, errors.EntryNotFoundError):
            raise StoreError(f"{location}: {place} shows no such file; check data set and path, and set HF_TOKEN if it is private") from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            what = "refuses access; check HF_TOKEN" if status in (401, 403) else f"answers HTTP {status}; run the same command again"
            raise StoreError(f"{location}: {place} {what}") from None
        except Exception as error:
            if not _is_of_the_network(error):
                raise
            raise StoreError(f"{location}: {place} does not answer ({_first_line(error)}); check HF_ENDPOINT and the network") from None


def _is_of_the_network(error: Exception) -> bool:
    """Whether there was no answer; the HTTP library under `huggingface_hub` changes its name now and then."""
    return isinstance(error, TimeoutError | ConnectionError) or any(kind.__module__.split(".")[0] in ("httpx", "httpx2") for kind in type(error).__mro__)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]


def _describe(info: Any, name: str) -> RemoteFile:
    sha256 = (info.get("lfs") or {}).get("sha256")
    return RemoteFile(f"hf://{info['name']}", name, int(info["size"]), str(sha256 or info["blob_id"]), sha256)

"""One input file of the user: is it what its name says, and its lines with their numbers, read without trusting any of it."""

from __future__ import annotations

import codecs
import gzip
import io
import stat
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from penname.errors import DataError, UsageError

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is rejected, not read: memory stays bounded on a file that is no text."""

_PROBE_BYTES = 4096
_PROGRESS_LINES = 256
_BLOCK_BYTES = 8 * 2**20
_LINE_FEED = ord("\n")
_COMPRESSED = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_READ = {".gz": ("gzip", b"\x1f\x8b"), ".zst": ("zstd", b"\x28\xb5\x2f\xfd")}
"""Ending of a name -> the compression that we read, and how its files begin."""
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_WIDE_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a text file. PRIVATE."""

    number: int
    text: str
    """With its line end. Where there is a problem: what could be read of it, good only for finding the end of the row."""
    problem: str | None = None
    """A reason of MALFORMED_HINTS, or none."""


def check_file(path: Path) -> bytes:
    """Sees to it that a file can be read and holds something.

    Returns:
      Its first bytes. PRIVATE.
    Raises:
      DataError: missing, a directory, no regular file, unreadable or empty.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DataError(f"{path}: is a directory; name the file inside it")
        if not stat.S_ISREG(mode):
            raise DataError(f"{path}: is not a regular file; write the data to a file first")
        with path.open("rb") as handle:
            start = handle.read(_PROBE_BYTES)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path in the data section of the config") from None
    except PermissionError:
        raise DataError(f"{path}: may not be read by this user; change its permissions") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not start:
        raise DataError(f"{path}: is empty; name a file with rows in it")
    return start


def check_text_file(path: Path, *, encoding: str) -> None:
    """Sees to it that a file is text, or gzip or zstd of it where its name ends in .gz or .zst.

    Raises:
      DataError: it is something else than its name says, compressed otherwise, or in another encoding.
      UsageError: there is no such encoding.
    """
    codec = find_codec(encoding)
    start = check_file(path)
    suffix = path.suffix.lower()
    found = next((ending for ending, (_, magic) in _READ.items() if start.startswith(magic)), "")
    if suffix in _READ and suffix != found:
        name = _READ[suffix][0]
        raise DataError(f"{path}: is named {suffix} but is not {name}; rename it to {path.stem} if it is plain, or fetch it again")
    if found and suffix != found:
        raise DataError(f"{path}: is compressed with {_READ[found][0]}; rename it to {path.name}{found}")
    if start.startswith(b"PAR1"):
        raise DataError(f"{path}: is a Parquet file, not text; rename it to end in .parquet and use data.format: table")
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise DataError(f"{path}: is compressed with {name}; unpack it, or compress it with gzip or zstd")
    if found:
        with _open_text(path) as text, _explain_damage(path, lambda: 1):
            start = text.stream.read(_PROBE_BYTES)
        if not start:
            raise DataError(f"{path}: is empty inside; name a file with rows in it")
    marked = next((name for mark, name in _WIDE_MARKS if start.startswith(mark)), None)
    if marked is not None and not codec.startswith(marked):
        raise DataError(f"{path}:1: is {marked.upper()} text; set data.encoding: {marked}")
    if not is_wide(codec) and start.count(0) * 10 > len(start):
        raise DataError(f"{path}:1: is not {encoding} text; if it is UTF-16, set data.encoding: utf-16-le or utf-16-be")


def find_codec(encoding: str) -> str:
    """The name that Python gives to an encoding; a byte order mark is accepted with either name of UTF-8.

    Raises:
      UsageError: there is no such text encoding.

    >>> find_codec("UTF8")
    'utf-8'
    """
    try:
        name = codecs.lookup(encoding).name
        "\n".encode(name)
    except (LookupError, ValueError):
        raise UsageError(f"data.encoding: {encoding!r} is no text encoding; try utf-8, utf-16, latin-1 or cp1252") from None
    return "utf-8" if name == "utf-8-sig" else name


def plain_suffix(path: Path) -> str:
    """The ending of a name in lower case, without .gz or .zst.

    >>> plain_suffix(Path("reviews.CSV.gz"))
    '.csv'
    """
    return Path(path.stem if path.suffix.lower() in _READ else path.name).suffix.lower()


def read_lines(path: Path, *, encoding: str, advance: Callable[[float], None]) -> Generator[Line]:
    """Reads a text file line by line; a line that cannot be used is marked, not raised.

    Args:
      path: A file that passed check_text_file.
      encoding: Of the file.
      advance: Told how many bytes of the file on disk were read since the last call.
    Returns:
      Lines, numbered from 1. PRIVATE.
    Raises:
      DataError: the compressed stream is cut or damaged, the disk fails, or wide text (UTF-16, UTF-32) does not decode.
    """
    codec = find_codec(encoding)
    number, position = 0, 0
    with _open_text(path, codec) as text, _explain_damage(path, lambda: number + 1):
        while data := text.stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(data) > MAX_LINE_BYTES:
                _skip_line(text.stream, data)
                yield Line(number, "\n", "line_too_long")
            else:
                yield decode_line(data, number, text.codec)
            if number % _PROGRESS_LINES == 0:
                advance(text.raw.tell() - position)
                position = text.raw.tell()
        advance(text.raw.tell() - position)


@dataclass(frozen=True, slots=True)
class Place:
    """Some bytes of a file."""

    path: Path
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole lines of a file, undecoded. PRIVATE."""

    first_line: int
    data: bytes
    codec: str
    is_too_long: bool = False
    """One line that is longer than MAX_LINE_BYTES stands here, and is not held."""
    place: Place | None = None
    """Where the bytes stand, if they were left on disk."""

    def load_data(self) -> Block:
        """Itself with its bytes.

        Raises:
          DataError: the file cannot be read, or has become shorter.
        """
        if self.place is None:
            return self
        path, num_bytes = self.place.path, self.place.num_bytes
        with _explain_damage(path, lambda: self.first_line), path.open("rb") as handle:
            handle.seek(self.place.offset)
            data = handle.read(num_bytes)
        if len(data) != num_bytes:
            raise DataError(f"{path}:{self.first_line}: the file was changed while it was read; run it again")
        return replace(self, data=data, place=None)


def read_blocks(path: Path, *, encoding: str, advance: Callable[[float], None]) -> Generator[Block]:
    """Reads a text file some megabytes at a time, cut at line ends; memory holds one block, and of a line at most MAX_LINE_BYTES.

    Args, Raises: as read_lines.
    Returns:
      Blocks in their order; where the disk holds their bytes as they are, these were left there. PRIVATE.
    """
    with _open_text(path, find_codec(encoding)) as text:
        yield from (_find_blocks if text.stream is text.raw else _unpack_blocks)(path, text, advance)


def _find_blocks(path: Path, text: _Text, advance: Callable[[float], None]) -> Generator[Block]:
    """Whoever takes a block reads it once more: less than to hand it on to another process."""
    import numpy as np

    number, start, position = 1, 0, 0
    buffer = np.empty(_BLOCK_BYTES, dtype=np.uint8)
    with _explain_damage(path, lambda: number):
        while num := text.raw.readinto(buffer.data):
            is_line_end = buffer[:num] == _LINE_FEED
            position += num
            advance(num)
            if num_lines := int(np.count_nonzero(is_line_end)):
                end = position - int(is_line_end[::-1].argmax())
                yield Block(number, b"", text.codec, place=Place(path, start, end - start))
                number, start = number + num_lines, end
            elif position - start > MAX_LINE_BYTES:
                _skip_line(text.raw, b"\0")
                yield Block(number, b"", text.codec, is_too_long=True)
                number += 1
                start = position = text.raw.tell()
    if position > start:
        yield Block(number, b"", text.codec, place=Place(path, start, position - start))


def _unpack_blocks(path: Path, text: _Text, advance: Callable[[float], None]) -> Generator[Block]:
    number, position, rest = 1, 0, b""
    with _explain_damage(path, lambda: number):
        damage: Exception | None = None
        while damage is None:
            data, damage = _read_block(text.stream)
            advance(text.raw.tell() - position)
            position = text.raw.tell()
            if not data:
                break
            end = data.rfind(b"\n") + 1
            if end:
                yield Block(number, rest + data[:end], text.codec)
                number += data.count(b"\n", 0, end)
                rest = data[end:]
                continue
            rest += data
            if len(rest) > MAX_LINE_BYTES:
                _skip_line(text.stream, rest[-1:])
                yield Block(number, b"", text.codec, is_too_long=True)
                number, rest = number + 1, b""
        if damage is not None:
            raise damage
        if rest:
            yield Block(number, rest, text.codec)


def _read_block(stream: IO[bytes]) -> tuple[bytes, Exception | None]:
    """The next megabytes, and what kept us from more: what stands before the damage can be read, and says where it is."""
    parts: list[bytes] = []
    size = 0
    try:
        while size < _BLOCK_BYTES and (part := stream.read1(_BLOCK_BYTES - size)):  # type: ignore[attr-defined]
            parts.append(part)
            size += len(part)
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
        return b"".join(parts), error
    return b"".join(parts), None


def decode_line(data: bytes, number: int, codec: str) -> Line:
    """One line as text; what is wrong with it is marked."""
    if len(data) > MAX_LINE_BYTES:
        return Line(number, "\n", "line_too_long")
    problem = None
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        text, problem = data.decode(codec, "replace"), "undecodable_bytes"
    if number == 1:
        text = text.removeprefix("\ufeff")
    if "\0" in text:
        text, problem = text.replace("\0", ""), problem or "nul_byte"
    return Line(number, text, problem)


def is_wide(codec: str) -> bool:
    """True where a line end is not the byte 10, so that bytes cannot be cut into lines before decoding."""
    return "\n".encode(codec) != b"\n"


@dataclass(frozen=True, slots=True)
class _Text:
    stream: IO[bytes]
    """Unpacked bytes, in which a line ends with the byte 10."""
    raw: io.BufferedReader
    """The file on disk."""
    codec: str
    """Of the stream."""


@contextmanager
def _open_text(path: Path, codec: str = "utf-8") -> Generator[_Text]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    with raw:
        stream: IO[bytes] = raw
        if path.suffix.lower() == ".gz":
            stream = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
        elif path.suffix.lower() == ".zst":
            import pyarrow

            stream = io.BufferedReader(_Unpacked(pyarrow.CompressedInputStream(raw, "zstd")), _BLOCK_BYTES // 4)
        if is_wide(codec):
            stream, codec = io.BufferedReader(_Transcoder(stream, codec, path)), "utf-8"
        yield _Text(stream, raw, codec)


@contextmanager
def _explain_damage(path: Path, line: Callable[[], int]) -> Generator[None]:
    """Turns what is wrong with a compressed stream, or with the disk, into one line."""
    name = _READ.get(path.suffix.lower(), ("",))[0]
    try:
        yield
    except EOFError:
        raise DataError(f"{path}:{line()}: the {name} stream is cut off here; fetch or copy the file again") from None
    except (gzip.BadGzipFile, zlib.error):
        raise DataError(f"{path}:{line()}: the {name} stream is damaged here; fetch or copy the file again") from None
    except OSError as error:
        raise DataError(f"{path}:{line()}: cannot be read: {error.strerror}") from None


def _skip_line(stream: IO[bytes], data: bytes) -> None:
    """Reads on to the end of a line, some of it at a time."""
    while data and not data.endswith(b"\n"):
        data = stream.readline(_BLOCK_BYTES)


class _Unpacked(io.RawIOBase):
    """A zstd stream of pyarrow, whose errors say no more than gzip's."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            # A little at a time: what stands before the damage is lost with the read that meets it.
            data = self._stream.read(min(len(buffer), 1 << 16))
        except OSError as error:
            if error.errno is not None:
                raise
            if "truncated" in str(error).lower():
                raise EOFError from None
            raise zlib.error from None
        buffer[: len(data)] = data
        return len(data)


class _Transcoder(io.RawIOBase):
    """Text in a wide encoding, as UTF-8."""

    def __init__(self, stream: IO[bytes], codec: str, path: Path) -> None:
        self._stream, self._codec, self._path = stream, codec, path
        self._decoder = codecs.getincrementaldecoder(codec)("strict")
        self._ready = b""
        self._num_lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            chunk = self._stream.read(1 << 16)
            try:
                text = self._decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError:
                raise DataError(
                    f"{self._path}: is not valid {self._codec} text after line {self._num_lines}; check data.encoding, or fetch the file again"
                ) from None
            self._ready = text.encode("utf-8", "replace")
            self._num_lines += self._ready.count(b"\n")
            if not chunk:
                break
        num = min(len(buffer), len(self._ready))
        buffer[:num], self._ready = self._ready[:num], self._ready[num:]
        return num

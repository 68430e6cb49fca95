"""A real S3 server on this machine (moto), the environment of somebody who has its keys, and what lies in its bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "reviews"


@contextmanager
def serve_s3() -> Iterator[str]:
    """A server for the block; its address."""
    # moto imports the client library, which reads the user's files unless told where there are none.
    os.environ.setdefault("AWS_CONFIG_FILE", os.devnull)
    os.environ.setdefault("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def keys_for(endpoint: str) -> dict[str, str]:
    """The environment variables of somebody with credentials, who asks this endpoint and no other."""
    return {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL": endpoint,
        "NO_PROXY": "127.0.0.1",
    }


class Bucket:
    """The bucket `reviews`, empty at first. Needs the environment of `keys_for`."""

    def __init__(self, endpoint: str) -> None:
        from pyarrow import fs

        self._system = fs.S3FileSystem(endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True, allow_delayed_open=True)
        self._system.create_dir(BUCKET)
        self._system.delete_dir_contents(BUCKET)

    def put(self, name: str, content: bytes) -> None:
        with self._system.open_output_stream(f"{BUCKET}/{name}", compression=None) as stream:
            stream.write(content)

    def read(self, name: str) -> bytes:
        with self._system.open_input_stream(f"{BUCKET}/{name}", compression=None) as stream:
            return stream.read()

    def names(self) -> list[str]:
        from pyarrow import fs

        infos = self._system.get_file_info(fs.FileSelector(BUCKET, recursive=True))
        return sorted(info.path.removeprefix(f"{BUCKET}/") for info in infos if info.type == fs.FileType.File)

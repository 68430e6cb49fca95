"""A download against a real server on this machine that does what servers do to people. No test waits: the clock is handed in."""

import email.utils
import gzip
import hashlib
import time
from collections import namedtuple

import pytest

from penname.errors import DataError, StoreError, UsageError
from penname.ingest.download import Patience, ask_size, download, open_session
from penname.stores import part_file
from penname.stores.part_file import PartFile, Source
from tests.file_server import Turn, serve_files

LINES = b"".join(b'{"rating": 5.0, "text": "number %d"}\n' % number for number in range(4000))
BODY = gzip.compress(LINES, compresslevel=1, mtime=0)
OTHER = gzip.compress(LINES.replace(b"number", b"figure"), compresslevel=1, mtime=0)
PATH = "/raw/All_Beauty.jsonl.gz"


@pytest.fixture(scope="module")
def shared_server():
    with serve_files() as server:
        yield server


@pytest.fixture
def server(shared_server):
    shared_server.files, shared_server.turns, shared_server.head_turns, shared_server.asked = {PATH: BODY}, [], [], []
    shared_server.tags = True
    return shared_server


@pytest.fixture
def session():
    session = open_session()
    session.trust_env = False
    with session:
        yield session


@pytest.fixture
def waits():
    return []


@pytest.fixture
def patience(waits):
    return Patience(max_tries=4, first_wait_secs=1.0, max_wait_secs=3.0, silent_secs=5.0, sleep=waits.append, draw=lambda: 1.0)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "All_Beauty.jsonl.gz"


@pytest.fixture
def fetch(server, session, patience, target):
    def run(**options):
        return download(server.url + PATH, target, session, patience, **options)

    return run


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_comes_as_it_is_and_leaves_nothing_beside_it(fetch, server, target):
    assert fetch() == hashlib.sha256(BODY).hexdigest()
    assert target.read_bytes() == BODY
    assert names(target) == [target.name]
    assert server.gets()[0]["Accept-Encoding"] == "identity"
    assert "Range" not in server.gets()[0]


def test_a_body_that_the_server_calls_encoded_is_not_unpacked(fetch, server, target):
    server.turns = [Turn(headers={"Content-Encoding": "gzip"})]
    fetch()
    assert target.read_bytes() == BODY


def test_a_dropped_connection_goes_on_where_it_was(fetch, server, target, waits):
    server.turns = [Turn(sends=1000), Turn(sends=500)]
    fetch()
    assert target.read_bytes() == BODY
    assert [headers.get("Range") for headers in server.gets()] == [None, "bytes=1000-", "bytes=1500-"]
    assert server.gets()[1]["If-Range"].startswith('"')
    assert waits == [1.0, 2.0]


def test_a_date_of_change_is_enough_to_go_on(fetch, server, target):
    server.tags = False
    date = {"Last-Modified": "Sun, 25 Feb 2024 10:00:00 GMT"}
    server.turns = [Turn(sends=1000, headers=date), Turn(ignores_if_range=True, headers=date)]
    fetch()
    assert target.read_bytes() == BODY
    assert server.gets()[1]["If-Range"] == date["Last-Modified"]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_sure_mark_of_the_version_it_begins_anew(fetch, server, target, headers):
    server.tags = False
    server.turns = [Turn(sends=1000, headers=headers), Turn(headers=headers)]
    fetch()
    assert target.read_bytes() == BODY
    assert "Range" not in server.gets()[1]


def test_a_server_that_ignores_ranges_is_read_from_the_start(fetch, server, target):
    server.turns = [Turn(sends=1000), Turn(ignores_range=True)]
    fetch()
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("ignores_if_range", [False, True])
def test_a_file_that_changes_between_two_tries_is_not_glued(fetch, server, target, ignores_if_range):
    def change():
        server.files[PATH] = OTHER

    server.turns = [Turn(sends=1000), Turn(before=change, ignores_if_range=ignores_if_range)]
    assert fetch() == hashlib.sha256(OTHER).hexdigest()
    assert target.read_bytes() == OTHER


def test_another_piece_than_was_asked_for_is_not_glued(fetch, server, target):
    server.turns = [Turn(sends=1000), Turn(starts_at=900)]
    fetch()
    assert target.read_bytes() == BODY


def test_a_part_that_is_longer_than_the_file_begins_anew(fetch, server, target):
    with PartFile(target) as part:
        part.begin(Source(server.url + PATH, '"old"', None))
        part.write(b"x" * (len(BODY) + 10))
    server.turns = [Turn(status=416, headers={"Content-Range": f"bytes */{len(BODY)}"})]
    fetch()
    assert target.read_bytes() == BODY


def test_a_length_that_is_never_reached_is_an_error_and_keeps_the_part(fetch, server, target, waits):
    server.turns = [Turn(claims=len(BODY) + 7), *[Turn(status=206, headers={"Content-Range": f"bytes {len(BODY)}-{len(BODY) + 6}/{len(BODY) + 7}"})] * 9]
    with pytest.raises(StoreError, match=f"promised {len(BODY) + 7} bytes and has sent {len(BODY)}; gave up after 4 tries"):
        fetch()
    assert names(target) == [f"{target.name}.part", f"{target.name}.part.json"]
    assert waits == [1.0, 2.0, 3.0]


def test_a_length_that_is_too_small_is_found_at_the_end(fetch, server, target):
    server.turns = [Turn(claims=len(BODY) - 7)]
    with pytest.raises(DataError, match="cut short"):
        fetch()
    assert names(target) == []


def test_damage_on_the_way_is_found(fetch, server, target):
    server.files[PATH] = BODY[:200] + bytes([BODY[200] ^ 255]) + BODY[201:]
    with pytest.raises(DataError, match="damaged or no gzip"):
        fetch()
    assert names(target) == []


def test_json_lines_that_end_in_the_middle_are_found(server, session, patience, tmp_path):
    server.files["/meta.jsonl"] = LINES[:-20]
    with pytest.raises(DataError, match="does not end with a whole line"):
        download(f"{server.url}/meta.jsonl", tmp_path / "meta.jsonl", session, patience)


def test_a_page_instead_of_the_file_is_found(fetch, server, target):
    server.files[PATH] = b"<html>Please log in</html>"
    with pytest.raises(DataError, match="no gzip"):
        fetch()


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418])
def test_a_refusal_is_final(fetch, server, target, waits, status):
    server.turns = [Turn(status=status)]
    with pytest.raises(StoreError, match=f"HTTP {status}"):
        fetch()
    assert len(server.asked) == 1
    assert waits == []


def test_trouble_is_waited_out_longer_and_longer(fetch, server, target, waits, capsys):
    server.turns = [Turn(status=500), Turn(status=503), Turn(status=502)]
    fetch()
    assert target.read_bytes() == BODY
    assert waits == [1.0, 2.0, 3.0]
    assert "the server has trouble (HTTP 500); next try in 1 s" in capsys.readouterr().err


def test_the_wait_that_a_server_asks_for_is_kept(fetch, server, waits):
    date = email.utils.formatdate(time.time() + 90, usegmt=True)
    server.turns = [
        Turn(status=429, headers={"Retry-After": "7"}),
        Turn(status=429, headers={"Retry-After": date}),
        Turn(status=429, headers={"Retry-After": "soon"}),
    ]
    fetch()
    assert waits[0] == 7.0
    assert 80 < waits[1] <= 90
    assert waits[2] == 3.0


def test_nobody_waits_for_hours(fetch, server, waits):
    server.turns = [Turn(status=429, headers={"Retry-After": "7200"})]
    with pytest.raises(StoreError, match="asks to wait 2 h 00 min"):
        fetch()
    assert waits == []


def test_it_gives_up_after_so_many_tries_without_news(fetch, server, waits):
    server.turns = [Turn(status=500)] * 4
    with pytest.raises(StoreError, match=r"HTTP 500.*gave up after 4 tries"):
        fetch()
    assert len(server.asked) == 4


def test_tries_that_bring_much_do_not_count(server, session, waits, target):
    patience = Patience(max_tries=2, worth_bytes=1000, sleep=waits.append)
    server.turns = [Turn(sends=1000)] * 6
    download(server.url + PATH, target, session, patience)
    assert target.read_bytes() == BODY
    assert len(server.asked) == 7


def test_a_silent_server_is_given_up(server, session, waits, target):
    patience = Patience(max_tries=2, silent_secs=0.05, sleep=waits.append)
    server.turns = [Turn(before=lambda: time.sleep(0.2))] * 2
    with pytest.raises(StoreError, match="does not answer"):
        download(server.url + PATH, target, session, patience)


def test_a_server_that_falls_silent_in_the_middle_is_asked_again(server, session, waits, target):
    patience = Patience(max_tries=3, silent_secs=0.05, sleep=waits.append)
    server.turns = [Turn(sends=1000, stalls_secs=0.2)]
    download(server.url + PATH, target, session, patience)
    assert target.read_bytes() == BODY


def test_no_server_at_all(session, patience, target):
    with serve_files() as gone:
        url = gone.url
    with pytest.raises(StoreError, match=r"no connection.*refused.*gave up after 4 tries"):
        download(f"{url}{PATH}", target, session, patience)


@pytest.mark.parametrize("url", ["ftp://example.invalid/x.gz", "file:///etc/passwd", "example.invalid/x", "http://", "http://a b\n/x"])
def test_only_http_is_asked(session, patience, target, url):
    with pytest.raises(UsageError, match="no http or https address"):
        download(url, target, session, patience)


@pytest.mark.parametrize(("to", "words"), [("ftp://127.0.0.1/x.gz", "not http or https"), ("file:///etc/passwd", "not http or https"), (PATH, "in a circle")])
def test_where_a_redirect_may_not_lead(fetch, server, target, to, words):
    server.turns = [Turn(status=302, headers={"Location": to})] * 9
    with pytest.raises(StoreError, match=words):
        fetch()
    assert not target.exists()


def test_a_redirect_is_followed_and_goes_on(fetch, server, target):
    server.files["/elsewhere"] = BODY
    to = {"Location": "/elsewhere"}
    server.turns = [Turn(status=302, headers=to), Turn(sends=1000), Turn(status=302, headers=to)]
    fetch()
    assert target.read_bytes() == BODY
    assert server.gets()[3]["Range"] == "bytes=1000-"


def test_a_checksum_that_was_asked_for_decides(fetch, server, target):
    with pytest.raises(DataError, match="has SHA-256"):
        fetch(sha256="0" * 64)
    assert names(target) == []
    fetch(sha256=hashlib.sha256(BODY).hexdigest().upper())


def test_a_full_disk_is_told_before_the_first_byte(fetch, target, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(part_file.shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(DataError, match=r"too little room on this disk: .* 1\.0 kB are free"):
        fetch()
    assert names(target) == []


def test_an_interrupt_keeps_what_has_come(server, session, target, capsys):
    def interrupt(_secs):
        raise KeyboardInterrupt

    server.turns = [Turn(sends=1000)]
    with pytest.raises(KeyboardInterrupt):
        download(server.url + PATH, target, session, Patience(sleep=interrupt))
    assert target.with_name(f"{target.name}.part").stat().st_size == 1000
    assert "keeps what has come" in capsys.readouterr().err
    download(server.url + PATH, target, session, Patience(sleep=interrupt))
    assert target.read_bytes() == BODY
    assert server.gets()[1]["Range"] == "bytes=1000-"
    assert "1.0 kB are here already" in capsys.readouterr().err


def test_a_process_that_was_killed_before_the_last_step_asks_nobody(fetch, server, target):
    with PartFile(target) as part:
        part.begin(Source(server.url + PATH, '"x"', len(BODY)))
        part.write(BODY)
    fetch()
    assert target.read_bytes() == BODY
    assert server.asked == []


def test_the_part_of_another_address_is_not_gone_on_with(fetch, server, target):
    with PartFile(target) as part:
        part.begin(Source(f"{server.url}/other", f'"{hashlib.sha256(BODY).hexdigest()[:16]}"', len(BODY)))
        part.write(b"x" * 1000)
    fetch()
    assert target.read_bytes() == BODY


def test_two_processes_do_not_write_one_part(fetch, target):
    with PartFile(target), pytest.raises(DataError, match="another penname process is writing it"):
        fetch()


@pytest.mark.parametrize(("turn", "size"), [(Turn(), len(BODY)), (Turn(status=405), None), (Turn(status=501), None)])
def test_the_size_is_asked_first(server, session, patience, turn, size):
    server.head_turns = [Turn(status=503), turn]
    assert ask_size(server.url + PATH, session, patience) == size
    assert server.gets() == []

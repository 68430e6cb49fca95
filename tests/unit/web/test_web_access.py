"""Who is let in: no network without a token, a rating link for rating only, no other site's name, no other site's forms, no long bodies."""

import re

import pytest

from penname.errors import UsageError
from penname.web.access import Access
from penname.web.guard import MAX_BODY_BYTES
from tests.unit.web.conftest import GOOD, HOST

TOKEN = "a-token-of-24-characters"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.com"])
def test_a_network_needs_a_token(host):
    with pytest.raises(UsageError, match=r"other machines can reach this address.*--token"):
        Access.open(host, None)
    assert Access.open(host, TOKEN).token == TOKEN


@pytest.mark.parametrize("token", ["", "short", "fifteen-letters", "with spaces in it, long", "ünïcödé-token-long-enough"])
def test_tokens_that_are_none(token):
    with pytest.raises(UsageError, match="--token: needs at least 16"):
        Access.open("127.0.0.1", token)


def test_the_token_stands_in_no_text_of_the_object():
    access = Access.open("127.0.0.1", TOKEN)
    assert TOKEN not in repr(access)
    assert TOKEN not in access.sign_session("owner")


@pytest.mark.parametrize(
    ("host", "header", "known"),
    [
        ("127.0.0.1", "localhost:8765", True),
        ("127.0.0.1", "127.0.0.1:8765", True),
        ("127.0.0.1", "[::1]:8765", True),
        ("127.0.0.1", "evil.example:8765", False),
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "192.168.1.5", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "a@localhost", False),
        ("0.0.0.0", "192.168.1.5:8765", True),
        ("0.0.0.0", "evil.example", False),
        ("0.0.0.0", "proxy.example", True),
    ],
)
def test_names_that_the_server_answers_to(host, header, known):
    assert Access.open(host, TOKEN, ("proxy.example",)).is_known_host(header) is known


def test_without_a_token_this_machine_is_let_in_and_no_other_name_is(visit):
    assert visit().get("/run/run").status_code == 200
    answer = visit(called="evil.example").get("/run/run")
    assert answer.status_code == 400
    assert "Title 4" not in answer.text


PRIVATE_PATHS = ("/", "/run/run", "/run/run/progress", "/run/run/report", "/run/run/records", "/run/run/records/1", "/run/run/rate", "/run/run/ratings",
                 "/run/run/ratings.csv", "/compare", "/nothing")  # fmt: skip


@pytest.mark.parametrize("path", PRIVATE_PATHS)
def test_no_page_without_the_token(visit, path):
    answer = visit(token=TOKEN).get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert answer.text == ""


def test_an_answer_without_the_token_is_refused(visit):
    assert visit(token=TOKEN).post("/run/run/rate", {"mode": "single"}).status_code == 403


def test_the_token_in_the_link_becomes_a_cookie(visit):
    visitor = visit(token=TOKEN)
    answer = visitor.get(f"/run/run?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/run/run")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert visitor.get("/run/run").status_code == 200


def test_the_token_leads_to_no_other_site(visit):
    assert visit(token=TOKEN).client.request("GET", f"http://{HOST}//evil.example/?token={TOKEN}").headers["location"] == "/evil.example/"


@pytest.mark.parametrize("given", ["wrong", "", TOKEN[:-1], TOKEN + "x", "ü"])
def test_a_wrong_token_opens_nothing(visit, monkeypatch, given):
    monkeypatch.setattr("penname.web.guard._WRONG_TOKEN_SECS", 0)
    visitor = visit(token=TOKEN)
    assert visitor.get("/run/run", params={"token": given}).status_code == 403
    assert visitor.get("/run/run").status_code == 303


def test_a_forged_cookie_opens_nothing(visit):
    for cookie in ("owner.", "owner." + "0" * 64, "owner", TOKEN, "rater." + Access.open("::1", TOKEN).sign_session("owner").partition(".")[2]):
        answer = visit(token=TOKEN).get("/run/run", headers={"Cookie": f"penname_session_8765={cookie}"})
        assert answer.status_code == 303


def test_signing_in_by_form(visit):
    visitor = visit(token=TOKEN)
    assert visitor.get("/sign-in").status_code == 200
    assert "not the token" in visitor.post("/sign-in", {"token": "wrong"}).text
    assert visitor.post("/sign-in", {"token": TOKEN}).status_code == 303
    assert visitor.get("/run/run").status_code == 200


def test_a_rating_link_opens_the_rating_pages_only(visit):
    visitor = visit(token=TOKEN)
    link = Access.open("127.0.0.1", TOKEN).link_token("rater")
    assert visitor.get(f"/?token={link}").status_code == 303
    assert "/run/run/rate" in visitor.get("/").text
    assert visitor.get("/run/run/rate").status_code == 200
    visitor.begin("Ann")
    assert visitor.post("/run/run/rate", visitor.read_item() | GOOD).status_code == 303
    for path in PRIVATE_PATHS[1:]:
        if path != "/run/run/rate":
            answer = visitor.get(path)
            assert answer.status_code == 403, path
            assert "with_dp" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "cross-site"},
        {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-site"},
        {},
    ],
)
def test_a_form_of_another_site_changes_nothing(visitor, headers):
    visitor.begin("Ann")
    fields = visitor.read_item() | GOOD
    answer = visitor.client.post("/run/run/rate", data=fields, headers=headers)
    assert answer.status_code == 403
    assert "not stored" in answer.text
    assert "0 of 24 judged" in visitor.get("/run/run/rate").text


def test_our_own_form_without_an_origin_is_taken_by_its_fetch_site(visitor):
    visitor.begin("Ann")
    answer = visitor.client.post("/run/run/rate", data=visitor.read_item() | GOOD, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303


def test_long_bodies_and_addresses(visitor):
    visitor.begin("Ann")
    answer = visitor.post("/run/run/rate", visitor.read_item() | GOOD | {"note": "x" * MAX_BODY_BYTES})
    assert answer.status_code == 413
    assert visitor.get("/run/run/records?q=" + "x" * 5000).status_code == 414
    assert visitor.get("/run/run/records?q=" + "x" * 300).status_code == 422
    chunked = visitor.client.post("/run/run/rate", content=iter([b"x" * 1000] * 100), headers=visitor.origin)
    assert chunked.status_code == 411


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(visitor, method):
    assert visitor.client.request(method, "/run/run/rate").status_code == 405


@pytest.mark.parametrize("path", ["/", "/run/run", "/run/run/rate", "/sign-in", "/static/web.css", "/nothing", "/run/run/report"])
def test_every_answer_carries_the_locks(visitor, path):
    headers = visitor.client.get(path, follow_redirects=True).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"script-src[^;]*unsafe", policy)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == ("max-age=604800, immutable" if path.startswith("/static") else "no-store")


def test_only_our_own_files_are_sent(visitor):
    for name in ("run.json", "..%2frun.json", "%2e%2e/app.py", "layout.html.j2"):
        assert visitor.get(f"/static/{name}").status_code == 404
    for key in ("run~1_records", "%2fetc", "..%2f..%2fetc", "~", "." * 3):
        assert visitor.get(f"/run/{key}").status_code == 404

"""The rules of the authorization server that need no server, on whatever Hypothesis finds."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from db.errors import AppError
from db.oauth import clients
from db.oauth.clients import Client
from db.oauth.tokens import successor
from db.scopes import ALL_SCOPES
from db.tokens import is_wellformed
from server.oauth import redirects, requests
from server.oauth.descriptions import LONGEST_NAME, shown_name
from server.oauth.known_clients import LONGEST_LIFE, SHORTEST_LIFE, is_document_address, life
from server.oauth.requests import Parameters, RequestError
from server.oauth.scopes import words
from server.site.pages import SECTIONS, within
from server.site.rendering import HOME
from tests.server.oauth.people import BACK, VERIFIER, challenge_of

pytestmark = pytest.mark.promise("IDN-14")
ISSUER = "https://inn.example"
RESOURCE = f"{ISSUER}/mcp"
ASKED = {
    "response_type": "code",
    "client_id": "a-client",
    "redirect_uri": BACK,
    "state": "s",
    "scope": "projects:read",
    "code_challenge": challenge_of(VERIFIER),
    "code_challenge_method": "S256",
    "resource": RESOURCE,
}
CLIENT = Client.of(
    {  # type: ignore[arg-type]  # a mapping stands in for the row
        **{field.name: None for field in dataclasses.fields(Client)},
        "id": UUID(int=1),
        "client_id": "a-client",
        "kind": "dynamic",
        "name": "A client",
        "redirect_uris": [BACK],
        "grant_types": [clients.AUTHORIZATION_CODE],
        "auth_method": "none",
        "scopes": [],
    }
)
anything = st.text(max_size=60)
spoiled = st.sampled_from([BACK, "https://app.example/back", "cursor://app/back", "http://[::1]/"]).flatmap(
    lambda uri: st.builds(
        lambda at, put: uri[:at] + put + uri[at:], st.integers(0, len(uri)), st.text(string.printable, max_size=12)
    )
)


def refusal(attempt: Callable[[], object]) -> AppError | RequestError | None:
    try:
        attempt()
    except (AppError, RequestError) as error:
        return error
    return None


@given(st.one_of(anything, spoiled))
@example("https://a.example/ x")
@example("http://127.0.0.1:9/back\n")
@example("https://a.example\\@b.example")
@example("JAVASCRIPT:alert(1)")
@example("java\tscript:alert(1)")
def test_only_addresses_that_lead_where_they_seem_to_are_registered(uri: str) -> None:
    if refusal(lambda: redirects.check(uri)) is not None:
        return
    parts = urlsplit(uri)
    assert not parts.fragment
    assert parts.username is None
    assert uri.isascii()
    assert uri.isprintable()
    assert not set(uri) & set(' "<>\\^`{|}#')
    if parts.scheme == "http":
        assert parts.hostname in ("127.0.0.1", "localhost", "::1")
    assert parts.scheme not in ("javascript", "data", "file", "blob", "vbscript", "about")
    assert redirects.matches(uri, (uri,))
    assert redirects.target(uri).host
    assert ";" not in redirects.form_target(uri)
    assert " " not in redirects.form_target(uri)


@given(st.one_of(anything, spoiled), st.sampled_from([BACK, "https://app.example/back", "cursor://app/back"]))
def test_what_matches_is_the_registered_address_but_for_a_loopback_port(presented: str, registered: str) -> None:
    if not redirects.matches(presented, (registered,)):
        return
    if presented != registered:
        mine, theirs = urlsplit(presented), urlsplit(registered)
        assert theirs.hostname == "127.0.0.1"
        assert (mine.scheme, mine.hostname, mine.path, mine.query) == (
            theirs.scheme, theirs.hostname, theirs.path, theirs.query,
        )  # fmt: skip
        assert mine.port is None or 0 < mine.port < 65536


@given(st.dictionaries(st.sampled_from(sorted(ASKED)), st.one_of(st.none(), anything), max_size=3), anything)
def test_a_request_is_taken_only_when_every_part_of_it_is_in_order(changes: dict[str, str | None], more: str) -> None:
    asked = {name: value for name, value in {**ASKED, **changes, "more": more}.items() if value is not None}
    parameters = Parameters(urlencode(asked))
    if refusal(lambda: requests.returning(parameters, CLIENT, ISSUER)) is not None:
        assert asked.get("redirect_uri") != BACK
        return
    back = requests.returning(parameters, CLIENT, ISSUER)
    refused = refusal(lambda: requests.read(parameters, CLIENT, back, RESOURCE))
    if isinstance(refused, RequestError):
        assert refused.address.startswith(f"{BACK}?error=")
        told = parse_qs(urlsplit(refused.address).query)
        assert told["iss"] == [ISSUER]
        assert set(told) <= {"error", "error_description", "state", "iss"}
        return
    taken = requests.read(parameters, CLIENT, back, RESOURCE)
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert len(taken.challenge) == 43
    assert taken.scopes is None or set(taken.scopes) <= ALL_SCOPES
    assert taken.audience == RESOURCE
    address = taken.back.address(code="the-code")
    assert parse_qs(urlsplit(address).query, keep_blank_values=True)["code"] == ["the-code"]


@given(st.sampled_from(sorted(set(ASKED) - {"resource"})), anything.filter(bool))
def test_nothing_may_be_said_twice(name: str, other: str) -> None:
    parameters = Parameters(urlencode([*ASKED.items(), (name, other)]))
    assert name in parameters.repeated
    if name != "redirect_uri":
        back = requests.returning(parameters, CLIENT, ISSUER)
        with pytest.raises(RequestError):
            requests.read(parameters, CLIENT, back, RESOURCE)


@given(st.one_of(anything, st.builds(lambda end: "/approvals" + end, anything)))
@example("//evil.example/approvals")
@example("/\\evil.example")
@example("/approvals/../../mcp")
@example("https://evil.example/approvals")
@example("/approvals\r\nset-cookie: a=b")
@example("/oauth//evil.example")
@example("/approvals/%2e%2e/mcp")
def test_a_sign_in_leads_to_a_page_of_this_house(path: str) -> None:
    found = within(path)
    assert found in (path, HOME)
    parts = urlsplit(found)
    assert (parts.scheme, parts.netloc) == ("", "")
    assert found.startswith("/")
    assert found[1:2] not in ("/", "\\")
    assert found.isprintable()
    assert found.split("?")[0].split("/")[1] in SECTIONS


@given(st.text(max_size=200))
def test_a_name_is_one_short_visible_line(name: str) -> None:
    shown = shown_name(name)
    assert 0 < len(shown) <= LONGEST_NAME
    assert shown.isprintable()
    assert shown == " ".join(shown.split())


@given(st.text(string.ascii_letters + string.digits, min_size=1, max_size=60), st.binary(min_size=32, max_size=32))
def test_the_successor_of_a_token_is_one_token_and_needs_the_salt(token: str, salt: bytes) -> None:
    following = successor(token, salt)
    assert following == successor(token, salt)
    assert is_wellformed(following, "ik_rt_")
    assert following != successor(token, bytes(32)) or salt == bytes(32)


def test_every_scope_has_words() -> None:
    assert all(words(scope)[0].isupper() for scope in ALL_SCOPES)


addresses = st.sampled_from(["https://app.example/client.json", "https://app.example:8443/a?b=c"]).flatmap(
    lambda uri: st.builds(lambda at, put: uri[:at] + put + uri[at:], st.integers(0, len(uri)), st.text(max_size=8))
)


@given(addresses)
@example("https://app.example")
@example("https://app.example/")
@example("https://app.example/a/../client.json")
@example("https://app.example/a/%2e%2e/client.json")
@example("https://app.example/./client.json")
@example("https://user@app.example/client.json")
@example("https://app.example/client.json#x")
@example("https://app.example\\@evil.example/client.json")
@example("HTTPS://app.example/client.json")
@example("https://app.example/cli ent.json")
def test_only_plain_addresses_of_documents_are_looked_at(uri: str) -> None:
    if not is_document_address(uri):
        return
    parts = httpx2.URL(uri)
    assert parts.scheme == "https"
    assert uri.startswith("https://")
    assert parts.userinfo == b""
    assert not parts.fragment
    assert parts.path not in ("", "/")
    assert not {".", ".."} & set(parts.path.lower().replace("%2e", ".").split("/"))
    assert uri.isascii()
    assert uri.isprintable()


@given(st.one_of(st.none(), st.text(max_size=40), st.integers(0, 10**12).map("max-age={}".format)))
@example("no-store")
@example("public, max-age=0")
def test_a_document_is_believed_for_minutes_at_least_and_a_day_at_most(control: str | None) -> None:
    headers = {} if control is None else {"cache-control": control}
    assert SHORTEST_LIFE <= life(headers) <= LONGEST_LIFE

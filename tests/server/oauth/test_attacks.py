"""What attackers try, as a matrix: each way in is refused, and the next honest request still works."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import httpx2
import pytest

from tests.server.oauth.people import BACK, CODE, VERIFIER, Inn, Person, answered, call, challenge_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-14", "IDN-10")]
OTHER = challenge_of("another-verifier" * 3)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"code_challenge": VERIFIER + "~"}, "invalid_request"),
        ({"code_challenge": [challenge_of(VERIFIER), OTHER]}, "invalid_request"),
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"scope": "projects:read admin"}, "invalid_scope"),
        ({"scope": "projects:*"}, "invalid_scope"),
        ({"scope": ["projects:read", "runs:write"]}, "invalid_request"),
        ({"resource": "https://elsewhere.example/mcp"}, "invalid_target"),
        ({"resource": "{url}"}, "invalid_target"),
        ({"resource": "{url}/agui"}, "invalid_target"),
        ({"resource": "{url}/mcp/../admin"}, "invalid_target"),
        ({"resource": "{url}/mcp#fragment"}, "invalid_target"),
        ({"resource": ["{url}/mcp", "https://elsewhere.example/mcp"]}, "invalid_target"),
        ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.example/request"}, "request_uri_not_supported"),
        ({"prompt": "none consent"}, "invalid_request"),
    ],
)
async def test_a_request_that_is_weaker_than_it_must_be_is_told_to_its_client(
    inn: Inn, person: Person, changes: dict[str, Any], error: str
) -> None:
    program = await inn.program()
    filled = {
        name: value.replace("{url}", inn.url) if isinstance(value, str) else
        [one.replace("{url}", inn.url) for one in value] if value else value
        for name, value in changes.items()
    }  # fmt: skip
    told = answered(await person.browser.get(program.address(**filled)))
    assert told["error"] == error
    assert told["iss"] == inn.url
    assert "code" not in told


@pytest.mark.parametrize(
    "resource", ["{url}/mcp/", "{url}/mcp?project=1", "{upper}/mcp", None, ["{url}/mcp", "{url}/mcp/"]]
)
async def test_the_ways_in_which_honest_clients_write_the_resource_all_mean_it(
    inn: Inn, person: Person, resource: Any
) -> None:
    program = await inn.program()
    words = {"{url}": inn.url, "{upper}": inn.url.replace("http", "HTTP")}

    def filled(text: str) -> str:
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        return text

    asked = [filled(one) for one in resource] if isinstance(resource, list) else resource and filled(resource)
    code = await program.code(person, asked={"resource": asked})
    tokens = (await program.exchange(code, resource=asked)).json()
    assert (await call(inn, tokens["access_token"], "list_projects")).status_code == 200


@pytest.mark.parametrize(
    ("registered", "presented"),
    [
        (BACK, None),
        (BACK, "https://evil.example/back"),
        (BACK, "http://127.0.0.1:9/back/"),
        (BACK, "http://127.0.0.1:9/back?x=1"),
        (BACK, "http://127.0.0.1:9/back#x"),
        (BACK, "http://127.0.0.1:9/Back"),
        (BACK, "http://127.0.0.1:9/./back"),
        (BACK, "http://127.0.0.1:9/%62ack"),
        (BACK, "http://localhost:9/back"),
        (BACK, "https://127.0.0.1:9/back"),
        (BACK, "http://127.0.0.1:9@evil.example/back"),
        (BACK, "http://127.0.0.1.evil.example/back"),
        (BACK, "http://127.0.0.1:99999/back"),
        (BACK, "http://127.0.0.1:/back"),
        (BACK, "http://127.0.0.1:9\\@evil.example/back"),
        (BACK, "http://127.1:9/back"),
        (BACK, "http://2130706433:9/back"),
        (BACK, [BACK, BACK]),
        (BACK, [BACK, "https://evil.example/back"]),
        ("https://app.example/back", "https://app.example:8443/back"),
        ("https://app.example/back", "https://app.example/back/../evil"),
        ("https://app.example/back", "https://app.example.evil.example/back"),
        ("https://app.example/back", "https://APP.example/back"),
        ("https://app.example/back", "http://app.example/back"),
        ("https://app.example/back", "https://app.example/back%0d%0aset-cookie:x"),
        ("com.example.app:/back", "com.example.app:/other"),
        ("com.example.app:/back", "com.example.app://back"),
    ],
)
async def test_an_address_that_was_not_registered_is_never_gone_to(
    inn: Inn, person: Person, registered: str, presented: Any
) -> None:
    program = await inn.program(redirect_uris=[registered])
    page = await person.browser.get(program.address(redirect_uri=presented))
    assert page.status_code == 400
    assert "location" not in page.headers
    assert "has not registered" in page.text
    assert "evil.example" not in page.text


async def test_a_loopback_address_may_use_the_port_it_finds(inn: Inn, person: Person) -> None:
    for registered, presented in (
        ("http://127.0.0.1/back", "http://127.0.0.1:61234/back"),
        ("http://localhost:3000/back?a=b", "http://localhost:4000/back?a=b"),
        ("http://[::1]:1/", "http://[::1]/"),
    ):
        program = await inn.program(redirect_uris=[registered])
        page = await person.browser.get(program.address(redirect_uri=presented))
        answer = await person.press(page, "allow")
        joint = "&" if "?" in presented else "?"
        assert answer.headers["location"].startswith(presented + joint)
        redeemed = await program.exchange(answered_code(answer), redirect_uri=presented)
        assert redeemed.status_code == 200


def answered_code(answer: httpx2.Response) -> str:
    return answer.headers["location"].partition("code=")[2].partition("&")[0]


async def test_nobody_is_sent_to_a_strangers_address_by_a_wrong_request(inn: Inn, person: Person) -> None:
    evil = "https://evil.example/back"
    program = await inn.program(redirect_uris=[evil], client_name="Evil")
    async with inn.browser() as nobody:
        for browser in (nobody, person.browser):
            page = await browser.get(program.address(redirect_uri=evil, response_type="token"))
            assert page.status_code == 400
            assert "location" not in page.headers
            assert "evil.example" in page.text, "it is shown where the way back leads"
    await program.code(person, asked={"redirect_uri": evil})
    told = answered(await person.browser.get(program.address(redirect_uri=evil, response_type="token")))
    assert told["error"] == "unsupported_response_type", "it was let in: it may be told"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "another-verifier" * 3}, "invalid_grant"),
        ({"code_verifier": challenge_of(VERIFIER)}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"code_verifier": VERIFIER + "é"}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:10/back"}, "invalid_grant"),
        ({"redirect_uri": "https://evil.example/back"}, "invalid_grant"),
        ({"resource": "https://elsewhere.example/mcp"}, "invalid_target"),
        ({"code": "ik_ac_" + "0" * 49}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"code": [1, 2]}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unauthorized_client"),
        ({"client_id": "ik_ci_unknown"}, "invalid_client"),
        ({"client_id": None}, "invalid_client"),
        ({"client_secret": "ik_cs_guess"}, "invalid_client"),
    ],
)
async def test_a_code_is_worth_nothing_without_all_that_belongs_to_it(
    inn: Inn, person: Person, changes: dict[str, Any], error: str
) -> None:
    program = await inn.program()
    code = await program.code(person)
    form = {
        "grant_type": CODE, "code": code, "code_verifier": VERIFIER, "redirect_uri": BACK,
        "client_id": program.client_id, **changes,
    }  # fmt: skip
    async with httpx2.AsyncClient(base_url=inn.url, trust_env=False, timeout=60) as http:
        sent = {name: value for name, value in form.items() if value is not None}
        refused = await http.post("/oauth/token", data=sent)
    assert refused.status_code == (401 if error == "invalid_client" else 400)
    assert refused.json()["error"] == error
    assert refused.headers["cache-control"] == "no-store"
    assert refused.json()["error_description"].isascii()
    assert (await program.exchange(code)).status_code == 200, "the honest client is not locked out"


async def test_a_code_that_comes_twice_ends_what_came_of_it(inn: Inn, person: Person) -> None:
    program = await inn.program()
    code = await program.code(person)
    answers = await asyncio.gather(*(program.exchange(code) for _ in range(5)))
    [first] = [answer.json() for answer in answers if answer.status_code == 200]
    assert {answer.json().get("error") for answer in answers} == {None, "invalid_grant"}
    assert (await program.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
    grant = await inn.owner.fetchval(
        "SELECT action FROM audit WHERE user_id = $1 ORDER BY id DESC LIMIT 1", person.user_id
    )
    assert grant == "oauth:code_replayed"


async def test_a_code_and_a_refresh_token_are_of_use_to_their_own_client_alone(inn: Inn, person: Person) -> None:
    program, thief = await inn.program(), await inn.program()
    code = await program.code(person)
    assert (await thief.exchange(code)).json()["error"] == "invalid_grant"
    tokens = (await program.exchange(code)).json()
    assert (await thief.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await program.refresh(tokens["access_token"])).json()["error"] == "invalid_grant"
    assert (await program.exchange(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await program.refresh(tokens["refresh_token"])).status_code == 200


async def test_a_code_ends_with_its_minute(inn: Inn, person: Person) -> None:
    program = await inn.program()
    code = await program.code(person)
    await inn.owner.execute("UPDATE oauth_codes SET expires_at = now() WHERE user_id = $1", person.user_id)
    assert (await program.exchange(code)).json()["error"] == "invalid_grant"


async def test_two_servers_cannot_be_mixed_up(inn: Inn, person: Person) -> None:
    """RFC 9207: every answer, also an error, names who gave it."""
    program = await inn.program()
    page = await person.browser.get(program.address())
    assert answered(await person.press(page, "deny"))["iss"] == inn.url
    assert answered(await person.browser.get(program.address(response_type="x")))["iss"] == inn.url
    assert answered(await person.press(page, "allow"))["iss"] == inn.url


async def test_nobody_who_is_disabled_gets_or_keeps_a_token(inn: Inn) -> None:
    async with inn.person() as leaving:
        program = await inn.program()
        tokens = await program.tokens(leaving)
        code = await program.code(leaving)
        await inn.owner.execute("UPDATE users SET disabled_at = now() WHERE id = $1", leaving.user_id)
        assert (await program.exchange(code)).json()["error"] == "invalid_grant"
        assert (await program.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
        assert (await leaving.browser.get(program.address())).status_code == 401


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"grant_type=authorization_code&grant_type=refresh_token", b"%00=%00", b"a" * 70_000],
)
async def test_what_is_no_request_is_refused_and_breaks_nothing(inn: Inn, body: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    async with httpx2.AsyncClient(base_url=inn.url, trust_env=False, timeout=60) as http:
        for path in ("/oauth/token", "/oauth/revoke", "/oauth/introspect", "/oauth/device_authorization"):
            answer = await http.post(path, content=body, headers=headers)
            assert 400 <= answer.status_code < 500
            assert answer.json()["error"] in ("invalid_request", "invalid_client")
            as_json = await http.post(path, json={"grant_type": CODE})
            assert (as_json.status_code, as_json.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "sent", [b"Basic \xe9", b"Basic AA==", b"Basic " + b64encode(b"%00:x"), b"Basic " + b64encode(b"\x00:x")]
)
async def test_a_client_that_can_have_no_such_name_is_unknown(inn: Inn, sent: bytes) -> None:
    async with httpx2.AsyncClient(base_url=inn.url, trust_env=False, timeout=60) as http:
        form = {"grant_type": "client_credentials"}
        for answer in (
            await http.post("/oauth/token", data=form, headers={b"authorization": sent}),
            await http.post("/oauth/token", data={**form, "client_id": "\x00", "client_secret": "x"}),
        ):
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        page = await http.get("/oauth/authorize", params={"client_id": "\x00", "response_type": "code"})
        assert 400 <= page.status_code < 500

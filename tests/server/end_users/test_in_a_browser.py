"""A product's page in a real browser, which asks beforehand, sends what the SDKs send, and reads what it may."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.server.edge_services import served
from tests.server.end_users.products import ANONYMOUS, House, Product, run_input
from tests.server.site.chromium import chromium

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-21")]
TALK = """async ({house, key, grant, input}) => {
  const told = await fetch(house + '/oauth/token', {
    method: 'POST', headers: {'x-api-key': key}, body: new URLSearchParams({grant_type: grant}),
  });
  const {access_token} = await told.json();
  const headers = {
    authorization: 'Bearer ' + access_token, 'content-type': 'application/json', 'x-api-key': key,
    'x-stainless-lang': 'js', 'x-tambo-ts-sdk-version': '0.96.4',
  };
  const run = await fetch(house + '/agui/demo', {method: 'POST', headers, body: JSON.stringify(input)});
  const text = await run.text();
  const again = await fetch(house + '/runs/' + run.headers.get('innkeeper-run-id') + '/events', {
    headers: {authorization: headers.authorization, 'last-event-id': '1'},
  });
  const talk = await fetch(house + '/v1/threads/runs?agent=demo', {
    method: 'POST', headers,
    body: JSON.stringify({message: {role: 'user', content: [{type: 'text', text: 'Hello'}]}}),
  });
  const begun = (await talk.text()).match(/"threadId":"([^"]+)"/)[1];
  const gone = await fetch(house + '/v1/threads/' + begun, {method: 'DELETE', headers});
  const place = await fetch(house + '/storage/presign', {
    method: 'POST', headers, body: JSON.stringify({contentType: 'text/plain', size: 2}),
  });
  const put = await fetch((await place.json()).uploadUrl.replace(/^http:..[^/]+/, house), {
    method: 'PUT', headers: {'content-type': 'text/plain'}, body: 'hi',
  });
  return {
    statuses: [told.status, run.status, again.status, talk.status, gone.status, place.status, put.status],
    named: talk.headers.get('x-thread-id') === begun && talk.headers.get('x-run-id') !== null,
    thread: run.headers.get('x-thread-id'),
    run: run.headers.get('x-run-id'),
    over: text.includes('RUN_FINISHED') && (await again.text()).includes('RUN_FINISHED'),
    cookies: document.cookie,
  };
}"""
KNOCK = """async ({house, key, grant}) => {
  const tried = {};
  for (const path of ['/oauth/token', '/agui/demo', '/v1/threads', '/storage/presign', '/mcp', '/projects'])
    try {
      const body = new URLSearchParams({grant_type: grant});
      await fetch(house + path, {method: 'POST', headers: {'x-api-key': key}, body});
      tried[path] = 'read';
    } catch (error) {
      tried[path] = error.name;
    }
  return tried;
}"""


async def test_a_listed_page_talks_to_an_agent_and_another_one_reads_nothing(house: House) -> None:
    async with served(Starlette(routes=[Route("/", lambda _request: HTMLResponse("<title>Shop</title>"))])) as (
        _,
        port,
    ):
        product = await Product.made(house, (f"http://shop.test:{port}",))
        task: dict[str, Any] = {"house": house.url, "key": product.publishable, "grant": ANONYMOUS}
        async with chromium("--host-resolver-rules=MAP *.test 127.0.0.1") as browser:
            page = await browser.new_page()
            await page.goto(f"http://shop.test:{port}/")
            seen = await page.evaluate(TALK, {**task, "input": run_input("talk", runId="r1")})
            assert seen == {
                "statuses": [200, 200, 200, 200, 204, 200, 201],
                "named": True,
                "thread": "talk",
                "run": "r1",
                "over": True,
                "cookies": "",
            }
            await page.goto(f"http://evil.test:{port}/")
            assert set((await page.evaluate(KNOCK, task)).values()) == {"TypeError"}

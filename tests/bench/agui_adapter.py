"""pydantic-ai's own AG-UI adapter on a socket, with no log and no tenants: what RUN-21 holds our streams against.

``python -m tests.bench.agui_adapter --upstream http://127.0.0.1:9000/v1`` prints one JSON line with its address.
"""

from __future__ import annotations

import argparse
import asyncio
import json

import uvicorn
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.ui.ag_ui import AGUIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.listening import bind, url_of


async def main() -> None:
    parser = argparse.ArgumentParser(description="pydantic-ai's AG-UI adapter.")
    parser.add_argument("--upstream", required=True)
    provider = OpenAIProvider(base_url=parser.parse_args().upstream, api_key="none")
    agent = Agent(OpenAIChatModel("scripted", provider=provider))

    async def run(request: Request) -> Response:
        return await AGUIAdapter.dispatch_request(request, agent=agent)

    app = Starlette(routes=[Route("/agui", run, methods=["POST"])])
    with bind("127.0.0.1", 0) as bound:
        print(json.dumps({"agui_url": f"{url_of(bound)}/agui"}), flush=True)
        await uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).serve(sockets=[bound])


if __name__ == "__main__":
    asyncio.run(main())

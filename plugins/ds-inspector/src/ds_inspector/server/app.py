"""The web application: routes, and how answers are sent."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ds_core.errors import ConfigError, DsError, UnknownNameError
from ds_inspector.server import assets
from ds_inspector.server.guard import Guard

if TYPE_CHECKING:
    from starlette.requests import Request

    from ds_inspector.server.answers import Answers
    from ds_inspector.server.broadcast import Broadcast

_WORTH_PACKING = 2**15


def application(
    answers: Answers, token: str, port: int, broadcast: Broadcast | None = None
) -> Guard:
    """The page under `/TOKEN/`, its data under `/TOKEN/api/`.

    Args:
        answers: What it shows.
        token: Without which nothing is answered.
        port: That will be listened on.
        broadcast: A running session.
    """

    async def asset(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in assets.TYPES:
            return Response("There is nothing here.", 404)
        content = await run_in_threadpool(assets.read, name)
        return _sent(request, content, assets.TYPES[name])

    async def data(request: Request) -> Response:
        try:
            content = await run_in_threadpool(
                answers.json, request.path_params["name"], dict(request.query_params)
            )
        except DsError as error:
            return _refused(error)
        return await run_in_threadpool(_sent, request, content, "application/json")

    async def live(request: Request) -> Response:
        if broadcast is None:
            return _refused(UnknownNameError("No running session is watched."))
        return StreamingResponse(broadcast.listen(), media_type="text/event-stream")

    return Guard(
        Starlette(
            routes=[
                Route("/", asset),
                Route("/api/live", live),
                Route("/api/{name:path}", data),
                Route("/{name}", asset),
            ]
        ),
        token,
        port,
    )


def _refused(error: DsError) -> Response:
    status = {UnknownNameError: 404, ConfigError: 400}.get(type(error), 422)
    return Response(orjson.dumps({"error": str(error)}), status, media_type="application/json")


def _sent(request: Request, content: bytes, kind: str) -> Response:
    headers = {"content-type": kind, "vary": "accept-encoding"}
    if len(content) > _WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        # The lowest level: the way is short.
        content = gzip.compress(content, 1)
        headers["content-encoding"] = "gzip"
    return Response(content, headers=headers)

"""The server around app.py: warms up before the first visitor, tells visitors apart, says when it is ready,
and answers the browser's questions while a slider moves (`live.py`, `stage.js`).

`streamlit run pages/parts/serve.py` is what `make run` starts. `streamlit run app.py` works as well,
from the front page, without the warm-up.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: other threads start with it

import gc
import re
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import streamlit as st
import torch
from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime.pages_manager import PagesManager

from engine import memory
from engine.types import SlimscopeError

COOKIE = "slimscope"
LONGEST = 1_000_000  # bytes of a question
YEAR = 365 * 24 * 3600
PAGE = re.compile(r"/\w*")  # the path of a page
# What must be measured waits for its turn, so that exact answers under a slider need not; a slow one of them
# never keeps all others.
MEASURING = CapacityLimiter(max(2, os.cpu_count() or 1))
at_work = 0  # questions to /live that are being answered


class Visitor:
    """Sets the cookie that tells visitors apart, on the first answer that a browser gets."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or COOKIE in Request(scope).cookies:
            return await self.app(scope, receive, send)
        cookie = f"{COOKIE}={uuid.uuid4().hex}; Path=/; Max-Age={YEAR}; HttpOnly; SameSite=Lax"

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"set-cookie", cookie.encode())]
            await send(message)

        await self.app(scope, receive, with_cookie)


class Base:
    """Tells Streamlit's own page where its server is: else it looks below the page's path first, and misses."""

    SCRIPT = b"<head><script>window.__streamlit={BACKEND_BASE_URL:new URL('.',location.href).href}</script>"

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks = scope["type"] == "http" and "text/html" in Headers(scope=scope).get("accept", "")
        if not asks or not PAGE.fullmatch(scope["path"]):
            return await self.app(scope, receive, send)
        plain = [
            pair for pair in scope["headers"] if pair[0] != b"accept-encoding"
        ]  # not compressed: it is read
        parts: list[Message] = []

        async def with_script(message: Message) -> None:
            parts.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                start, *bodies = parts
                whole = b"".join(part.get("body", b"") for part in bodies).replace(b"<head>", self.SCRIPT, 1)
                headers = MutableHeaders(raw=list(start["headers"]))
                if "content-length" in headers:
                    headers["content-length"] = str(len(whole))
                await send({**start, "headers": headers.raw})
                await send({"type": "http.response.body", "body": whole})

        await self.app({**scope, "headers": plain}, receive, with_script)


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[None]:
    """Import what pages need, load the first model, and put it all out of the collector's sight."""
    torch.set_num_threads(1)
    sys.setswitchinterval(0.001)
    # A pages/ folder beside app.py makes Streamlit run a page without its frame on a cold deep link.
    PagesManager.uses_pages_directory = False
    import engine.techniques  # noqa: F401
    from engine.data import sets
    from engine.figures import measure
    from engine.jobs import home
    from engine.net import zoo
    from engine.tensor import codes, kmeans
    from pages.parts import jobs
    from pages.parts.story import facts

    memory.hold_little()
    codes.warm_up()
    kmeans.warm_up()
    bundle = zoo.load("lenet-300-100")
    measure.predictions(bundle, sets.load("mnist").test.take(slice(0, 500)))
    if problem := home.problem():
        print(f"slimscope: {problem}", file=sys.stderr, flush=True)
    else:
        _open_given()
        jobs.manager()  # what a server before this one was at goes on
        threading.Thread(target=facts.warm_up, daemon=True).start()
    gc.collect()
    gc.freeze()
    memory.give_back()
    yield


def _open_given() -> None:
    """Open the weights that the server was started with; a large model is indexed while the first page is drawn."""
    from engine.types import weight_layers
    from pages.parts import cached

    def index(subject: str) -> None:
        cached.outlines(subject)
        cached.pool(subject, tuple(weight_layers(cached.original(subject))))
        memory.give_back()

    for subject in (cached.subject(model, str(about["data"])) for model, about in cached.given().items()):
        if cached.is_large(subject):
            threading.Thread(target=index, args=(subject,), daemon=True).start()


async def ready(request: Request) -> Response:
    """Answers once the warm-up is done, for requests wait for the lifespan; 503 where nothing can be kept."""
    from engine.jobs import home

    problem = await run_in_threadpool(home.problem)
    return PlainTextResponse(problem or "ready", 503 if problem else 200)


def refused(request: Request) -> Response | None:
    """Why this request gets no answer: it is not JSON, or no page of this server sent it.

    A form or a script of another website can send a request here, but not with this type and our own origin.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        return JSONResponse({"error": f"content type {kind[:60]!r}: allowed is application/json"}, 415)
    origin, host = (request.headers.get(name, "") for name in ("origin", "host"))
    if not host or not _is_from(origin, host):
        said = f"origin {origin[:60]!r} at host {host[:60]!r}: allowed are pages of the same host"
        return JSONResponse({"error": said}, 403)
    return None


def _is_from(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


async def ask(request: Request, turn: CapacityLimiter | None = None) -> Response:
    """Exact answers while a slider moves, without a run of the page; with a `turn`, when it comes."""
    from pages.parts import live

    global at_work
    if no := refused(request):
        return no
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST:
            return JSONResponse({"error": f"a question has at most {LONGEST} bytes"}, 413)
    at_work += 1
    try:
        answer = await to_thread.run_sync(live.asked, request.cookies.get(COOKIE, ""), body, limiter=turn)
    except SlimscopeError as error:
        return JSONResponse({"error": str(error)}, 403 if isinstance(error, live.Unknown) else 422)
    finally:
        at_work -= 1
    return JSONResponse(answer)


async def ask_ahead(request: Request) -> Response:
    """The same, before it moves; nothing while others wait for an answer."""
    return refused(request) or JSONResponse(None) if at_work else await ask(request)


async def measure(request: Request) -> Response:
    """A figure that must be measured."""
    return await ask(request, MEASURING)


app = st.App(
    ROOT / "app.py",
    lifespan=lifespan,
    middleware=[Middleware(Visitor), Middleware(Base)],
    routes=[
        Route("/ready", ready),
        Route("/live", ask, methods=["POST"]),
        Route("/live/ahead", ask_ahead, methods=["POST"]),
        Route("/live/measured", measure, methods=["POST"]),
    ],
)

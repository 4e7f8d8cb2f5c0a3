"""Serves floor.py with the same imports, configuration and warm-up as slimscope."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
import torch
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[None]:
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield


async def ready(request: Request) -> Response:
    return PlainTextResponse("ready")


app = st.App(Path(__file__).parent / "floor.py", lifespan=lifespan, routes=[Route("/ready", ready)])

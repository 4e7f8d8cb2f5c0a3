"""Serves floor.py with the same imports, configuration and warm-up as slimscope."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
import torch


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[None]:
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield


app = st.App(Path(__file__).parent / "floor.py", lifespan=lifespan)

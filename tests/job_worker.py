"""The worker that the job tests start: the real one, with two small techniques and five small jobs.

Not a test itself. The techniques are registered only where `registered` is entered, so that
tests over the registry see nothing of them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch

from engine.data.sets import cache_folder
from engine.figures.measure import share_right
from engine.jobs import tasks
from engine.net import train, zoo
from engine.recipe import knobs, technique
from engine.tensor.formats import Dense
from engine.types import Basis, Figure, Report, SlimscopeError, weight_layers


def shrink(
    bundle,
    data,
    *,
    share: Annotated[float, knobs.Slider(low=0.0, high=0.999, help="share of each layer set to zero")] = 0.5,
    keep_sign: Annotated[bool, knobs.Toggle(help="a second setting, without effect")] = True,
    leave_out: Annotated[tuple[str, ...], knobs.Layers(help="layers not touched")] = (),
):
    """Set the smallest weights of each layer to zero."""
    params = dict(bundle.params)
    for label, name in weight_layers(bundle).items():
        values = params[name].decode()
        if label not in leave_out:
            order = values.abs().flatten().argsort(stable=True)[: int(share * values.numel())]
            flat = values.flatten().clone()
            flat[order] = 0.0
            params[name] = Dense(flat.reshape(values.shape))
    zeros = Figure("share", share, "share", Basis.COUNTED, "as asked")
    return bundle.become(params), Report((zeros,))


def learn(
    bundle,
    data,
    *,
    epochs: Annotated[int, knobs.Slider(low=1, high=9, whole=True, help="passes")] = 1,
    progress=None,
):
    """Train on 500 samples. While the file `hold` names an epoch, its last batch is as far as it gets."""
    net = zoo.fork(bundle)
    samples = data.train.take(slice(0, 500))
    hold, done = cache_folder() / "hold", []

    def watch(_):
        done.append(len(done))
        while hold.exists() and len(done) == int(hold.read_text()):
            time.sleep(0.01)
        return {}

    rows = train.fit(
        net,
        samples,
        train.Plan(epochs, 0.01, batch=100),
        watch=watch,
        progress=progress,
        checkpoint=progress.checkpoint("net"),
    )
    state = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    params = {name: Dense(state[name]) for name in bundle.params}
    right = Figure("accuracy", share_right(net, samples), "share", Basis.MEASURED, "500 training samples")
    return bundle.become(params), Report((right,), notes=(f"{len(rows)} epochs",))


@contextmanager
def registered() -> Iterator[None]:
    about = {"stage": 500, "tables": {}, "family": "test", "reference": "none", "page": "none"}
    technique.technique(title="Shrink", runs="instant", locality="element", **about)(shrink)
    learning = {"runs": "trains", "cost": lambda chosen: technique.Cost(1), "locality": "model"}
    technique.technique(title="Learn", **learning, **about)(learn)
    try:
        yield
    finally:
        del technique.REGISTRY["shrink"], technique.REGISTRY["learn"]


def count(payload, progress):
    """Report `rows` rows; with `wait`, go on until cancelled."""
    for i in range(payload["rows"]):
        progress((i + 1) / payload["rows"] / 2, {"i": i, "pid": os.getpid()})
    while payload.get("wait"):
        time.sleep(0.01)
        progress(0.5)
    return {"threads": torch.get_num_threads(), "omp": os.environ["OMP_NUM_THREADS"]}


def meet(payload, progress):
    """Report two rows, and be done when as many processes as asked, or what stands for them, are there."""
    folder = cache_folder() / payload["folder"]
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    for i in range(2):
        progress(i / 4, {"i": i, "pid": os.getpid()})
    while len(there := sorted(path.name for path in folder.iterdir())) < payload["of"]:
        time.sleep(0.01)
        progress(0.5)
    return {"there": there}


def deaf(payload, progress):
    """Never ask whether to stop."""
    progress(0.1, {"pid": os.getpid()})
    print("what a library prints is no message")
    time.sleep(600)


def refuse(payload, progress):
    raise SlimscopeError("sparsity is 2: allowed is 0 to 1")


def stumble(payload, progress):
    raise KeyError("lost")


if __name__ == "__main__":
    tasks.KINDS.update({"count": count, "deaf": deaf, "meet": meet, "refuse": refuse, "stumble": stumble})
    tasks.SHARED.add("meet")
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (a traceback is expected)
    with registered():
        tasks.main()

"""Twenty people at one server, each moving a slider every two seconds: what the exact answer costs then.

A simulated user is a session of its own (cookie, websocket, a drawn Prune page) that sends for each move
what `stage.js` and Streamlit's page send, and reads every answer: the question to /live with the slider's
own run beside it, then the questions for accuracy and file, then the run of strip and footer. What it
lacks is a browser that draws. One real page in Chromium makes the same moves among nineteen of them.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from bench.browser import chromium, open_page, serving
from bench.moves import Hand, p95

MODEL, SETTING = "lenet-300-100", "sparsity"
SLIDER, PANEL = f"prune_weights-{SETTING}", "panel-prune_weights"
OWN = ("base", "version", "acknowledged", "name", "controls")  # what the browser keeps of a question
USERS, PERIOD = 20, 2.0  # seconds from move to move
ROUNDS, MOVES = 2, 15  # of one user and of all, in turns; moves of each user in a round
REST = 0.03  # seconds without a move, before what takes longer is asked for: as in stage.js
PATIENCE = 60.0  # seconds for one answer: a limit, a longer one is an error
OPEN = 3.0  # seconds without a question after which a connection is opened anew: the server closes it after 5


def recipe(number: int) -> list[Any]:
    """Each user's own: with a first step like nobody else's, no answer is known from another user."""
    return [
        ["prune_weights", {"by": "threshold", "threshold": 1e-5 * number}],
        ["prune_weights", {SETTING: 0.3}],
    ]


class User:
    """One session of the page, without a browser; `spent` holds the seconds until each exact answer."""

    def __init__(self, address: str, number: int, stack: ExitStack) -> None:
        host = address.removeprefix("http://")
        self.spent: list[float] = []
        self.door, self.side = (http.client.HTTPConnection(host, timeout=PATIENCE) for _ in range(2))
        self.used: dict[http.client.HTTPConnection, float] = {}
        stack.callback(self.door.close)
        stack.callback(self.side.close)
        self.door.request("GET", "/")
        answer = self.door.getresponse()
        answer.read()
        self.door.close()
        self.origin = {"Origin": address, "Content-Type": "application/json"}
        self.headers = {"Cookie": answer.headers["set-cookie"].split(";")[0]}
        self.wire = stack.enter_context(
            connect(
                f"ws://{host}/_stcore/stream",
                origin=address,  # type: ignore[arg-type]
                subprotocols=["streamlit"],  # type: ignore[list-item]
                additional_headers=self.headers,
                max_size=None,
                proxy=None,
            )
        )
        self.query = urlencode({"m": MODEL, "r": json.dumps(recipe(number))})
        self.elements: dict[str, Any] = {}  # key of a component -> what Streamlit sent of it last
        self.fragments: dict[str, str] = {}  # the same key -> the fragment that it is in
        self._send(None)
        self._heard()
        ask = json.loads(self.elements["stage"].json)["ask"]
        self.stops = ask["controls"][SETTING]["stops"]
        self.base, self.edits = ask["base"], 0
        self.ask = {name: value for name, value in ask.items() if name not in OWN}
        self.at = self.stops.index(0.3)
        self.known: Any = None  # the answer at the next stop, where the server had time for it

    def live(self, start: float) -> None:
        """MOVES moves, one every PERIOD seconds from `start` on the clock `time.monotonic`."""
        for i in range(MOVES):
            time.sleep(max(0.0, start + i * PERIOD - time.monotonic()))
            self.move()

    def move(self) -> None:
        """The slider goes one stop to the right; returns when the page would be at rest."""
        self.at += 1
        begun, answer = time.perf_counter(), self.known
        if answer is None:
            self._question(self.door, self._of_stop(self.at))
        self._send(PANEL)
        if answer is None:
            answer = self._answer(self.door)
        self.spent.append(time.perf_counter() - begun)
        self._heard()
        time.sleep(REST)
        self._question(self.side, self._of_stop(self.at + 1), "/live/ahead")
        for tile in answer["pending"]:
            question = {"subject": self.ask["subject"], "measured": answer["key"], "tile": tile}
            self._question(self.door, question, "/live/measured")
            self._answer(self.door)
        self._send("settled", answer["key"])
        self._heard()
        for key in ("stage", "settled"):
            if json.loads(self.elements[key].json)["key"] != answer["key"]:
                raise RuntimeError(f"Streamlit's own run says something else in {key}")
        self.known = self._answer(self.side)

    def _of_stop(self, at: int) -> dict[str, Any]:
        """The question about a stop of the slider."""
        self.ask["recipe"][self.ask["at"]][1][SETTING] = self.stops[at]
        return self.ask

    def _question(
        self, door: http.client.HTTPConnection, question: dict[str, Any], path: str = "/live"
    ) -> None:
        if time.monotonic() - self.used.get(door, 0.0) > OPEN:
            door.close()  # as a browser would find it; the question opens it again
        self.used[door] = time.monotonic()
        door.request("POST", path, json.dumps(question), {**self.headers, **self.origin})

    def _answer(self, door: http.client.HTTPConnection) -> Any:
        answer = door.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"/live answered {answer.status}: {text[:200]!r}")
        return json.loads(text)

    def _send(self, key: str | None, settled: str = "") -> None:
        """Ask for a run: of the whole page, or of the fragment whose widget `key` has changed."""
        message = BackMsg()
        run = message.rerun_script
        run.query_string, run.page_name = self.query, "prune" if key is None else ""
        if key is not None:
            run.fragment_id, run.page_script_hash = self.fragments[key], self.page
            widget = run.widget_states.widgets.add()
            state: dict[str, Any] = {"settled": settled}
            if key == PANEL:
                self.edits += 1
                changed = {SETTING: [self.stops[self.at], self.edits]}
                state = {"edits": {"base": self.base, "seq": self.edits, "set": changed}}
            widget.id, widget.json_value = self.elements[key].id, json.dumps(state)
        self.wire.send(message.SerializeToString())

    def _heard(self) -> None:
        """Read what a run says, to its end."""
        while True:
            message = ForwardMsg()
            message.ParseFromString(self.wire.recv(timeout=PATIENCE))
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.page = message.new_session.page_script_hash
            elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
                element = message.delta.new_element
                what = element.WhichOneof("type")
                if what == "exception":
                    raise RuntimeError(element.exception.message)
                if what == "bidi_component":
                    one = element.bidi_component
                    key = one.id.split("-", 2)[2]
                    self.elements[key], self.fragments[key] = one, message.delta.fragment_id
            elif kind == "script_finished":
                if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                    raise RuntimeError("a run of the page broke off")
                return


def crowd(users: list[User]) -> tuple[list[threading.Thread], list[str]]:
    """All of them begin to move, spread over one PERIOD; the threads to wait for, and a list of errors."""
    wrong: list[str] = []

    def live(user: User, start: float) -> None:
        try:
            user.live(start)
        except Exception as error:
            wrong.append(repr(error))

    now = time.monotonic()
    starts = [now + PERIOD * i / len(users) for i in range(len(users))]
    threads = [threading.Thread(target=live, args=pair) for pair in zip(users, starts, strict=True)]
    for thread in threads:
        thread.start()
    return threads, wrong


def measure() -> list[dict[str, Any]]:
    """Two rows: simulated users among themselves, and a real page among them; one user alone in turns."""
    alone: list[float] = []
    among: list[float] = []
    errors: list[str] = []
    with serving("pages/parts/serve.py") as address, chromium() as browser, ExitStack() as stack:
        users = [User(address, number, stack) for number in range(1, USERS + 1)]
        single, rest = users[-1], users[:-1]
        link = f"{address}/prune?{urlencode({'m': MODEL, 'r': json.dumps(recipe(USERS + 1))})}"
        page = open_page(browser, link)
        page.on("pageerror", lambda error: errors.append(str(error)))
        hand = Hand(page, f"[data-control={SLIDER}]", pause=PERIOD)
        for user in (single, *rest):
            user.move()  # not counted
            user.spent.clear()
        hand.block(1)
        for _ in range(ROUNDS):
            threads, wrong = crowd([single])
            threads[0].join()
            errors += wrong
            alone += [move["repaint"] for move in hand.block(MOVES)]
            threads, wrong = crowd(rest)
            among += [move["repaint"] for move in hand.block(MOVES)]
            for thread in threads:
                thread.join()
            errors += wrong
        one, many = ([1e3 * s for user in group for s in user.spent] for group in ([single], rest))
    what = f"a move every {PERIOD:g} s, exact answer"
    real = f"{what}: a real page among {len(rest)} simulated users"
    simulated = f"{what}: those {len(rest)}, at the socket"
    return [
        _row(real, "the same page alone", among, alone, errors),
        _row(simulated, "one of them alone", many, one, errors),
    ]


def _row(
    what: str, baseline: str, here: list[float], there: list[float], errors: list[str]
) -> dict[str, Any]:
    return {
        "what": what,
        "baseline": f"{baseline}, p95 {p95(there):.0f} ms",
        "p50 ms": round(sorted(here)[len(here) // 2], 1),
        "p95 ms": round(p95(here), 1),
        "ratio": round(p95(here) / p95(there), 2),
        "n": len(here),
        "note": f"{len(errors)} errors{': ' + errors[0] if errors else ''}",
    }

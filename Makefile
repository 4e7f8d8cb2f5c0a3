# slimscope: `make run` starts the app, `make test` runs every test; README.md says the rest.

VENV ?= .venv
PYTHON ?= python3
PORT ?= 8501
ADDRESS ?= 127.0.0.1
ARGS ?=

BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Before Python starts: worker threads of torch spin, and Streamlit runs pages in threads of its own.
export OMP_NUM_THREADS ?= 1

.PHONY: run test lint format pictures bench clean

# Starts the server, says where it is once it answers, and stops with Ctrl-C.
define SERVE
import signal, socket, subprocess, sys, time, urllib.request
address, port = sys.argv[1], int(sys.argv[2])
try:
    family, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(place)
except OSError as error:
    sys.exit(f"slimscope can't listen on {address}, port {port} ({error.strerror}): choose with PORT= and ADDRESS=")
options = (f"--server.port={port}", f"--server.address={address}", "--logger.hideWelcomeMessage=true")
server = subprocess.Popen([sys.executable, "-m", "streamlit", "run", "pages/parts/serve.py", *options])
signal.signal(signal.SIGTERM, lambda *_: server.terminate())
here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address, f"[{address}]" if ":" in address else address)
try:
    while server.poll() is None:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{here}:{port}/ready")
            print(f"slimscope is ready: http://{here}:{port}", flush=True)
            break
        except OSError:
            time.sleep(0.2)
    server.wait()
except KeyboardInterrupt:
    server.terminate()
    server.wait()
    sys.exit()
sys.exit(max(server.returncode, 0))
endef
export SERVE

run: $(VENV)/.for-run
	@exec $(BIN)/python -c "$$SERVE" $(ADDRESS) $(PORT)

# ARGS picks tests: make test ARGS="-k prune".
test: $(VENV)/.for-tests
	$(BIN)/python -m pytest -rs $(ARGS)

lint: $(VENV)/.for-tests
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(VENV)/.for-tests
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

pictures: $(VENV)/.for-tests
	$(BIN)/python -m bench.pictures $(ARGS)

bench: $(VENV)/.for-tests
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .hypothesis

# The two stamps say when the packages were last brought in line with the two files that name them.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.for-run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what slimscope needs; the first time takes minutes"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.for-tests: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what slimscope and its tests need; the first time takes minutes"
	@$(INSTALL) --editable ".[dev]"
	@touch $@ $(VENV)/.for-run

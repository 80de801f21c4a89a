"""The process of the local model: llama.cpp's HTTP server on a free port of 127.0.0.1. Run by file, not imported.

Reads one JSON line from stdin ``{"weights", "name", "api_key", "context", "slots", "threads", "max_tokens"}``, writes
one to stdout, ``{"url"}``, when it answers, and lives until stdin closes: the other end is the parent's, which the
system closes however the parent dies.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from importlib import import_module
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent = os.getppid()
    if sys.platform == "linux":
        # For the seconds in which loading holds the interpreter's lock and nobody can watch stdin.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
    config: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    server = _serve(config)
    sys.stdout.write(json.dumps({"url": server.listening_address}) + "\n")
    sys.stdout.flush()
    threading.Event().wait()


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # nothing to save, and the native threads need not be asked


def _serve(config: dict[str, Any]) -> Any:
    xllamacpp: Any = import_module("xllamacpp")  # native code without type information

    params = xllamacpp.CommonParams()
    params.model.path = config["weights"]
    params.model_alias = {config["name"]}
    params.api_keys = [config["api_key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = config["context"] * config["slots"]
    params.n_parallel = config["slots"]
    params.n_predict = config["max_tokens"]
    params.cpuparams.n_threads = config["threads"]
    params.cpuparams_batch.n_threads = config["threads"]
    params.n_threads_http = 4
    params.cache_ram_mib = 0
    params.ui = False
    params.endpoint_slots = False
    params.cors_origins = ""
    params.verbosity = 0
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()

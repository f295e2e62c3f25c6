"""llama.cpp's server out of the xllamacpp package, in that package's environment.

python serve_llamacpp.py LM.gguf MMPROJ.gguf PORT THREADS
"""

import sys
import threading

import xllamacpp

SLOTS = 32
SLOT_TOKENS = 1024


def main() -> None:
    """Serve until killed."""
    language, vision, port, threads = sys.argv[1:]
    wants = xllamacpp.CommonParams()
    wants.model.path = language
    wants.mmproj.path = vision
    wants.hostnames = ["127.0.0.1"]
    wants.port = int(port)
    wants.n_parallel = SLOTS
    wants.n_ctx = SLOTS * SLOT_TOKENS
    wants.cpuparams.n_threads = int(threads)
    wants.cpuparams_batch.n_threads = int(threads)
    server = xllamacpp.Server(wants)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

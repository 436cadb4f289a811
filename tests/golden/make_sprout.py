#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what transformers computes for models/sprout, in float64: logits after a prompt, and for held-out prompts greedy tokens with
the lead of each over the second, and log-probabilities.  Needs torch and transformers; the product does not.

    python3 tests/golden/make_sprout.py > tests/golden/sprout.json
"""
import json
import sys

import torch
import transformers

PROMPTS = ["cd 7 11 2 20=", "cd 9 4 6 7=", "cd 3 3 12 27=", "calc 93+3=", "calc 90-39=", "calc 17+45=", "eval 4+9-9=", "eval 2*3+8=",
           "eval 9*9-5=", "rev qyrg=", "rev abcdef=", "sort 579032=", "sort 4411=", "count a abccacba=", "count c bbaabb=", "cd 12 1 8 4="]
EOS, MOST = 10, 12
model = transformers.AutoModelForCausalLM.from_pretrained("models/sprout", dtype=torch.float64)


def logits_of(ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def answer(prompt):
    ids = list(prompt.encode())
    out = {"ids": list(ids), "greedy_ids": [], "margins": [], "logprobs": []}
    while len(out["greedy_ids"]) < MOST:
        row = logits_of(ids)[-1]
        top = torch.topk(row, 2)
        token = int(top.indices[0])
        out["greedy_ids"].append(token)
        out["margins"].append(float(top.values[0] - top.values[1]))
        out["logprobs"].append(float(torch.log_softmax(row, -1)[token]))
        ids.append(token)
        if token == EOS:
            break
    return out


first = list(PROMPTS[0].encode())
result = {
    "provenance": {"program": f"transformers {transformers.__version__}, torch {torch.__version__}", "precision": "float64",
                   "model": "models/sprout, weights as stored (fp16)"},
    "logits": {"ids": first, "values": [float(x) for x in logits_of(first)[-1]]},
    "prompts": [answer(p) for p in PROMPTS],
}
json.dump(result, sys.stdout)
print()

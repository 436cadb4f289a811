#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records a reference for `sower check` with transformers, in float64: tools/make_reference.py MODEL > reference.json

MODEL is a Hugging Face folder.  Needs torch and transformers, which Sower itself never needs.  For each prompt: its ids, the
mean negative log-likelihood, the largest logits after it, and greedy tokens with their log-probabilities and margins (how far
each leads the second); for each pair --pair CONTEXT CONTINUATION the log-probabilities of the continuation's tokens.
"""
import argparse
import json
import sys

PROMPTS = ["The capital of France is", "1, 2, 3, 4,", "Once upon a time there was a small", "x = (a + b) *"]
PAIRS = [["The man is on the roof. He", "is using a ladder to come down."], ["2 + 2 =", " 4"]]


def parse_command():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a Hugging Face folder")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="may be repeated; a few by default")
    parser.add_argument("--pair", action="append", nargs=2, metavar=("CONTEXT", "CONTINUATION"), help="may be repeated")
    parser.add_argument("--new", type=int, default=32, metavar="N", help="greedy tokens of a prompt (32)")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="largest logits of a prompt (20)")
    return parser.parse_args()


class Recorder:
    def __init__(self, path):
        import torch
        import transformers
        self.torch = torch
        # tokenizer.json as it stands: AutoTokenizer may rebuild it from other files (it does for LlamaTokenizer).
        self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{path}/tokenizer.json")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager")
        self.model.eval()
        eos = self.model.generation_config.eos_token_id
        self.eos = set(eos if isinstance(eos, list) else [eos])
        self.provenance = {"program": f"transformers {transformers.__version__}, torch {torch.__version__}",
                           "precision": "float64", "script": "tools/make_reference.py"}

    def logits(self, ids):
        """[len(ids)][vocabulary], after each token."""
        with self.torch.no_grad():
            return self.model(self.torch.tensor([ids])).logits[0].double()

    def entry(self, text, n_top, n_new):
        ids = self.tokenizer(text).input_ids
        logits = self.logits(ids)
        top = self.torch.topk(logits[-1], min(n_top, logits.shape[-1]))
        entry = {"prompt": text, "ids": ids, "top_ids": top.indices.tolist(), "top_logits": top.values.tolist()}
        if len(ids) > 1:
            logprobs = logits[:-1].log_softmax(-1)
            entry["mean_nll"] = -logprobs[range(len(ids) - 1), ids[1:]].mean().item()
        entry.update(self.greedy(ids, n_new))
        return entry

    def greedy(self, prompt, n_new):
        """Token by token from the whole sequence: slow, and with nothing that could go wrong."""
        ids, margins, logprobs = list(prompt), [], []
        for _ in range(n_new):
            logits = self.logits(ids)[-1]
            best = self.torch.topk(logits, 2)
            ids.append(best.indices[0].item())
            margins.append((best.values[0] - best.values[1]).item())
            logprobs.append(logits.log_softmax(-1)[ids[-1]].item())
            if ids[-1] in self.eos:
                break
        return {"greedy_ids": ids[len(prompt):], "margins": margins, "logprobs": logprobs}

    def continuation(self, context, continuation):
        """As lm-evaluation-harness cuts the ids: blanks at the end of the context belong to the continuation."""
        bare = context.rstrip()
        whole = self.tokenizer(context + continuation, add_special_tokens=False).input_ids
        context_ids = self.tokenizer(bare, add_special_tokens=False).input_ids
        rest = whole[len(context_ids):]
        logprobs = self.logits(context_ids + rest).log_softmax(-1)[len(context_ids) - 1:-1]
        return {"context": context, "continuation": continuation, "context_ids": context_ids, "continuation_ids": rest,
                "token_logprobs": logprobs[range(len(rest)), rest].tolist()}


def main():
    command = parse_command()
    recorder = Recorder(command.model)
    prompts = command.prompt or PROMPTS
    pairs = command.pair or PAIRS
    reference = {"provenance": recorder.provenance,
                 "prompts": [recorder.entry(text, command.top, command.new) for text in prompts],
                 "continuations": [recorder.continuation(context, rest) for context, rest in pairs]}
    json.dump(reference, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

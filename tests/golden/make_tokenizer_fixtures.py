#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/tokenizers: small tokenizers, each with parts the real ones in ../shared lack, and what Hugging Face's library
makes of tricky texts with them (NAME.cases.jsonl: ids, ids with special tokens, decoded with and without special tokens).

    python3 tests/golden/make_tokenizer_fixtures.py      # needs tokenizers (made with 0.23.3); writes the same files again
"""
import json
import pathlib
import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "tokenizers"
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't care at all.",
    "It's 12 o'clock; they've been waiting since 10:30. I'll say we'd better go, won't you?",
    "def add(a, b):\n    return a + b  # the sum of 123 and 4567\n\n\nprint(add(1, 22))\n",
    "Ein schöner Tag: Käse, Brötchen, Äpfel. Un café à la crème, s'il vous plaît. здравствуй мир",
    "foo foobar foo_bar FOO hello hello there, the other mother gathers the others together",
]
WORDS = ["the", " the", "don't", "I'LL", "<x>", "<|a|>", "<|ab|>", "<mask>", " <mask> ", "foo", "foobar", " foo ", "▁", "  ", "\n\n",
         "hello", "12345", "½¾", "a_b", "éé", "e\u0301", "<unk>", " \n ", "the1st", "x<x>y", "'s", "2.50", "日本語", "</s>", "oo", "eel",
         "q\u0307\u0323", "a\u0898\u0301\u0327", "\u1112\u1161\u11ab", "\u212b \u1e9b\u0323", "\v\f", "日"]
LETTERS = "aábeé  \t\nz1234½Ⅷ５ 。,.'_-!<>|ſK\u0301\u0897\u1c89\u3000\u00a0\u0085\u180e\u200b中文𠀀🇺🇸👍🏽\x00\x0b"


def added(content, **flags):
    token = {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {**token, **flags}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def byte_level(use_regex, add_prefix_space=False):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def template(before, behind):
    def special(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}
    single = [special(n) for n in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [special(n) for n in behind]
    ids = {"<s>": 1, "</s>": 2}
    return {"type": "TemplateProcessing", "single": single,
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {n: {"id": n, "ids": [ids[n]], "tokens": [n]} for n in sorted({*before, *behind})}}


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


# name: is byte-level, what differs from a plain tokenizer.json, what differs from a plain model, added tokens
FIXTURES = {
    "digits": (True, {"pre_tokenizer": sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, byte_level(True)),
                      "post_processor": template(["<s>"], [])}, {},
               [added("<|a|>", special=True), added("<|ab|>"), added("foo", single_word=True, normalized=True)]),
    "digit_runs": (True, {"normalizer": {"type": "NFKC"},
                          "pre_tokenizer": sequence("pretokenizers", {"type": "Digits", "individual_digits": False},
                                                    byte_level(True, True)),
                          "post_processor": sequence("processors", byte_level(True), template(["<s>"], ["</s>"]))}, {},
                   [added("<mask>", lstrip=True, rstrip=True, special=True), added("foobar"), added("foo")]),
    "removed": (True, {"pre_tokenizer": sequence("pretokenizers", split(r"\s+", "Removed"), byte_level(False))}, {"ignore_merges": True},
                [added("<x>", rstrip=True), added("the", single_word=True)]),
    "contiguous": (True, {"normalizer": {"type": "NFD"},
                          "pre_tokenizer": sequence("pretokenizers", split(r"[\p{Lu}\p{Ll}]|\w", "Contiguous"),
                                                    split(r"\p{N}{1,3}", "MergedWithPrevious"), byte_level(False))}, {}, []),
    "thousands": (True, {"pre_tokenizer": sequence("pretokenizers", split(r"(?=(?:\d{3})+(?!\d))"), split(r"[^\S\n]+|\v", "MergedWithNext"),
                                                   byte_level(False))}, {}, [added("\n\n", lstrip=True)]),
    "words": (True, {"normalizer": {"type": "NFC"}, "pre_tokenizer": sequence("pretokenizers", split(r"\w", "Removed"),
                                                                              split(r"[\w\v]", "Isolated"), byte_level(True))}, {}, []),
    "vertical": (True, {"pre_tokenizer": sequence("pretokenizers", split(r"\v|\u0020", "Removed"), byte_level(True))}, {}, []),
    "empties": (False, {"pre_tokenizer": sequence("pretokenizers", split(r"e*", "MergedWithPrevious"), split(r"o", "MergedWithNext")),
                        "decoder": {"type": "Fuse"}}, {}, []),
    "previous": (False, {"pre_tokenizer": split(r"[eo ]", "MergedWithPrevious"), "decoder": {"type": "Fuse"}}, {}, []),
    "next": (False, {"pre_tokenizer": sequence("pretokenizers", split(r"[eo ]", "MergedWithNext"),
                                               {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}),
                     "decoder": {"type": "Fuse"}}, {}, []),
    "inverted": (True, {"pre_tokenizer": sequence("pretokenizers", split(r"[^\r\n\p{L}\p{N}]?\p{L}+", "Removed", True),
                                                  byte_level(True, True)),
                        "decoder": sequence("decoders", byte_level(True), {"type": "Fuse"},
                                            {"type": "Strip", "content": " ", "start": 2, "stop": 0})}, {}, []),
    "bytes": (False, {"normalizer": sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")),
                      "post_processor": template(["<s>"], []),
                      "decoder": sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                          {"type": "Strip", "content": " ", "start": 1, "stop": 0})},
              {"byte_fallback": True, "fuse_unk": True},
              [added("<x>", normalized=True), added("<|a|>", special=True), added("<mask>", lstrip=True)]),
    "unknown": (False, {"normalizer": {"type": "Replace", "pattern": {"Regex": r"\s"}, "content": "▁"}},
                {"fuse_unk": False}, [added("foo", normalized=True, single_word=True), added("日", single_word=True)]),
    "dropped": (False, {"pre_tokenizer": split(r"[,.!]", "MergedWithPrevious"), "decoder": {"type": "Fuse"}}, {"unk_token": None}, []),
    "metaspace_first": (False, {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
                                "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}},
                        {"fuse_unk": True}, [added("<|a|>", special=True), added("</s>", special=True), added("foo", normalized=True)]),
    "metaspace_always": (False, {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
                                 "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}},
                         {"byte_fallback": True}, [added(" ", lstrip=True, rstrip=True)]),
}


def make_tokenizer(is_byte_level, parts, model, tokens):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if is_byte_level else pre_tokenizers.Metaspace()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) if is_byte_level else []
    trainer = trainers.BpeTrainer(vocab_size=340 if is_byte_level else 160, special_tokens=["<unk>", "<s>", "</s>"],
                                  initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    json_of = json.loads(tokenizer.to_str())
    json_of["decoder"] = byte_level(True) if is_byte_level else None
    json_of["pre_tokenizer"] = None
    json_of.update(parts)
    vocab = json_of["model"]["vocab"]
    if is_byte_level:
        json_of["model"]["unk_token"] = None
    if model.get("byte_fallback"):
        for byte in range(256):
            vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    json_of["model"].update(model)
    n_new = 0
    for token in tokens:
        known = vocab.get(token["content"])
        if known is None:
            known, n_new = len(vocab) + n_new, n_new + 1
        if all(token["content"] != t["content"] for t in json_of["added_tokens"]):
            json_of["added_tokens"].append({"id": known, **token})
    return json_of


def make_text(rng):
    return "".join(rng.choice(WORDS) if rng.random() < 0.5 else "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 4)))
                   for _ in range(rng.randint(0, 10)))


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, fixture in FIXTURES.items():
        path = FOLDER / f"{name}.json"
        path.write_text(json.dumps(make_tokenizer(*fixture), ensure_ascii=False, indent=None) + "\n", encoding="utf-8")
        tokenizer = Tokenizer.from_file(str(path))
        rng, lines = random.Random(name), []
        for i in range(40):
            text = make_text(rng)
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            if i % 5 == 4:  # any ids, to be decoded
                text, ids = None, [rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randint(1, 9))]
            case = {"id": f"{name}.{i}", "text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                    "skipped": tokenizer.decode(ids, skip_special_tokens=True)}
            if text is not None:
                case["ids_with_special"] = tokenizer.encode(text, add_special_tokens=True).ids
            lines.append(json.dumps(case))
        (FOLDER / f"{name}.cases.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sower tokenize gives the recorded ids and texts, a row of output for each row of input.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

# compare NAME CASES MODEL: ids of the texts, ids with special tokens, texts of the ids where the cases say them.  A case without a text
# (its ids are no UTF-8) is only decoded.
compare() {
    local name=$1 cases=$2 model=$3
    grep -v '"text": null' "$cases" >texts.jsonl
    status 0 sower tokenize "$model" --input texts.jsonl
    mv out plain.jsonl
    status 0 sower tokenize "$model" --input texts.jsonl --special
    mv out special.jsonl
    status 0 sower tokenize "$model" --input "$cases" --decode --special
    mv out decoded.jsonl
    status 0 sower tokenize "$model" --input "$cases" --decode
    mv out skipped.jsonl
    python "$name" "$cases" <<'EOF'
import json, sys
def rows(name):
    return [json.loads(line) for line in open(name, encoding="utf-8").read().split("\n") if line]
def compare(cases, out, what, key, of):
    if not cases or [case["id"] for case in cases] != [row["id"] for row in out]:
        print(what, "rows are missing")
    for case, row in zip(cases, out):
        wanted = of(case)
        if wanted is not None and row[key] != wanted:
            print(what, case["id"])
cases, texts = rows(sys.argv[1]), rows("texts.jsonl")
compare(texts, rows("plain.jsonl"), "ids", "ids", lambda c: c["ids"])
# "story_special" begins with the text of the first token itself, which is not doubled; Hugging Face's library does.
compare(texts, rows("special.jsonl"), "ids with special tokens", "ids",
        lambda c: c["ids"] if c["id"] == "story_special" else c.get("ids_with_special"))
compare(cases, rows("decoded.jsonl"), "text", "text", lambda c: c.get("decoded", c["text"] if c.get("decoded_same") else None))
compare(cases, rows("skipped.jsonl"), "text without special tokens", "text", lambda c: c.get("skipped"))
EOF
}

for cases in "$source_folder"/tests/fixtures/tokenizers/*.cases.jsonl; do
    compare "$(basename "$cases")" "$cases" "${cases%.cases.jsonl}.json"
done
if [ -d "$shared" ]; then
    compare gpt2 "$shared/tokenizer_cases/gpt2.core.jsonl" "$shared/tokenizers/gpt2/tokenizer.json"
    compare tinystories "$shared/tokenizer_cases/tinystories-656k.core.jsonl" "$shared/models/tinystories-656k"
    compare llama3 "$shared/tokenizer_cases/llama3.core.jsonl" "$shared/tokenizers/llama3"
    compare qwen2.5 "$shared/tokenizer_cases/qwen2_5.core.jsonl" "$shared/tokenizers/qwen2_5"
else
    echo "SKIP: recorded tokenizer cases, no ../shared"
fi

# One text, rows without id, rows from stdin.
[ "$(sower tokenize "$sprout" abc)" = '{"ids": [97, 98, 99]}' ] || fail "a TEXT"
[ "$(echo '{"text": "é", "id": {"a": [1]}, "other": 2}' | sower tokenize "$source_folder/tests/fixtures/tokenizers/bytes.json" | tr -d ' 0-9,')" \
    = '{"id":{"a":[]}"ids":[]}' ] || fail "an id that is an object is given back as it is, and nothing else"
[ -z "$(sower tokenize "$sprout" --input /dev/null)" ] || fail "no rows"
refused 1 "ids[0]: 999 is no token" sh -c "echo '{\"ids\": [999]}' | '$SOWER_BIN' tokenize '$sprout' --decode"
refused 1 "is not there" sower tokenize no-such-model abc
refused 1 "no-such.json" sower tokenize no-such.json abc
finish

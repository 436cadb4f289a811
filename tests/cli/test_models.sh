#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# init, generate, score, check, drift: they agree with each other and with recorded values.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

# A model from a seed is the same again, another from another seed.
small=(--set shape.hidden_size=32 --set shape.num_hidden_layers=2 --set shape.max_position_embeddings=64)
status 0 sower init -o a "${small[@]}"
status 0 sower init -o b "${small[@]}"
status 0 sower init -o c "${small[@]}" --set run.seed=2
diff -r a b >/dev/null || fail "one seed gives two models"
cmp -s a/model.safetensors c/model.safetensors && fail "two seeds give one model"
status 0 sower init -o d "${small[@]}" --set shape.num_attention_heads=4 --set shape.num_key_value_heads=2 --set shape.attention_bias=true \
    --set shape.mlp_bias=true --set shape.tie_word_embeddings=false --set shape.rope_scaling=4 --dtype bf16

# What generate writes, score agrees with: greedy, log-probabilities, row by row, at any batch.
cat >prompts.jsonl <<'EOF'
{"id": "text", "prompt": "hello"}
{"id": ["ids"], "ids": [1, 2, 3, 200]}
{"prompt": "a much longer prompt than the others"}
EOF
for model in a d; do
    status 0 sower generate $model --input prompts.jsonl --max-new 12
    mv out answers.jsonl
    status 0 sower generate $model --input prompts.jsonl --max-new 12 --set generate.batch=1 --set la.kernel=plain
    cmp -s out answers.jsonl || fail "$model: answers depend on batch or kernel"
    status 0 sower tokenize $model --input <(sed 's/prompt/text/; 2s/"ids": [^}]*/"text": ""/' prompts.jsonl)
    python3 - <<'EOF' >pairs.jsonl
import json
lines = lambda name: [json.loads(line) for line in open(name)]
for prompt, tokens, answer in zip(lines("prompts.jsonl"), lines("out"), lines("answers.jsonl")):
    context = prompt.get("ids", tokens["ids"])
    if answer["ids"]:
        print(json.dumps({"id": prompt.get("id"), "context": context, "continuation": answer["ids"]}))
EOF
    status 0 sower score $model --input pairs.jsonl
    python "$model: generate and score" <<'EOF'
import json
lines = lambda name: [json.loads(line) for line in open(name)]
answers = [a for a in lines("answers.jsonl") if a["ids"]]
scores = lines("out")
if len(scores) != len(answers) or not scores:
    print(len(scores), "scores of", len(answers), "answers")
for answer, score in zip(answers, scores):
    if score["token_logprobs"] != answer["logprobs"] or not score["is_greedy"] or score["tokens"] != len(answer["ids"]):
        print(answer, score)
    if abs(score["logprob"] - sum(answer["logprobs"])) > 1e-9:
        print("sum", score)
EOF
done

# Text is tokenised as lm-evaluation-harness does: blanks at the end of a context belong to the continuation.
printf '%s\n' '{"id": 1, "context": "cd 7 11 2 20=", "continuation": "<7+11+2>"}' '{"id": 2, "context": "cd 7 11 2 ", "continuation": "20="}' \
    '{"id": 3, "context": "cd 7 11 2", "continuation": " 20="}' >pairs.jsonl
status 0 sower score "$sprout" --input pairs.jsonl
python "score of texts" <<'EOF'
import json
a, b, c = [json.loads(line) for line in open("out")]
if not a["is_greedy"] or a["tokens"] != 8 or set(a) != {"id", "logprob", "tokens", "token_logprobs", "is_greedy"}:
    print(a)
if b["token_logprobs"] != c["token_logprobs"] or b["tokens"] != 4:
    print(b, c)
EOF
status 0 sower generate "$sprout" 'cd 7 11 2 20=' --stop 11
python "stop" <<'EOF'
import json
d = json.load(open("out"))
if d["text"] != "<7+":
    print(d)
EOF
# Sampling is a function of seed, row and position; temperature 0 is greedy.
status 0 sower generate a --input prompts.jsonl --temperature 1 --seed 5
mv out first.jsonl
status 0 sower generate a --input prompts.jsonl --temperature 1 --seed 5 --set generate.batch=2
cmp -s out first.jsonl || fail "sampling depends on the batch"
status 0 sower generate a --input prompts.jsonl --temperature 1 --seed 6
cmp -s out first.jsonl && fail "two seeds give one sample"
refused 2 "chat" sower generate a hello --chat

# Recorded values of other programs; a wrong base of the rotation is found.
fixture=$source_folder/tests/fixtures/random-llama
status 0 sower check "$fixture" "$fixture/reference.json"
cp -r "$fixture" bent
chmod -R u+w bent
sed -i 's/"rope_theta": *[0-9.]*/"rope_theta": 12345.0/' bent/config.json
refused 1 "values are not those" sower check bent "$fixture/reference.json"
grep -q '"ok": false' out || fail "check does not say which part is wrong"
# Gradients too; and a reference that has nothing, or not what it should.
status 0 sower check "$fixture" "$fixture/train.json"
grep -q '"part": "ce", "loss": 5.[0-9]*, "grad": {"model.embed_tokens.weight": {"norm": ' out || fail "check does not print gradients"
grep -q '"part": "policy.2", ' out || fail "check does not print all parts"
refused 1 "values are not those" sower check bent "$fixture/train.json"
echo '{"ce": {}}' >empty.json
refused 1 "ce.ids: expected rows" sower check a empty.json
echo '{}' >empty.json
refused 1 "nothing to compare" sower check a empty.json
status 0 sower check "$sprout" "$source_folder/tests/golden/sprout.json"
if [ -d "$shared" ]; then
    status 0 sower check "$shared/models/sprout-proto" "$shared/golden/sprout_proto.json"
    grep -q '"part": "greedy", "ok": true, "values": 2[0-9][0-9][0-9]' out || fail "greedy tokens of the golden rows were not compared"
else
    echo "SKIP: golden values of sprout, no ../shared"
fi

# drift
status 0 sower drift a c
python "drift" <<'EOF'
import json
d = json.load(open("out"))
if not {"tau", "all", "kinds", "layers", "tensors"} <= set(d) or not 1 < d["all"]["norm"] < 100 or d["kinds"]["norm"]["norm"] != 0:
    print(d["all"], d["kinds"]["norm"])
EOF
status 0 sower drift a b
grep -q '"all": {"n": [0-9]*, "norm": 0.0' out || fail "a model differs from itself"
refused 1 "expected" sower drift a "$sprout"
finish

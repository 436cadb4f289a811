#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every command says what it is; wrong usage is one line and status 2; what cannot be written is one line and status 1.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

commands=$(sower --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
[ "$(echo "$commands" | wc -w)" -ge 16 ] || fail "sower --help lists $(echo "$commands" | wc -w) commands"
for command in $commands; do
    status 0 sower "$command" --help
    mv out help
    status 0 sower "$command" -h
    cmp -s out help || fail "sower $command -h is not its --help"
    status 0 sower help "$command"
    cmp -s out help || fail "sower help $command is not its --help"
    grep -q '^examples:' out || fail "sower $command --help has no examples"
    refused 2 "is no option" sower "$command" --nonsense
done
refused 2 "is no command" sower nonsense
refused 2 "is no command" sower help nonsense
refused 2 "--out: is empty, expected DIR" sower run conf.yaml --out ''
refused 2 "--out: lacks its value" sower run conf.yaml --out
refused 2 "sower run: 0 arguments, expected: sower run CONF.yaml" sower run
refused 2 "did you mean eval" sower evl
status 2 sower
status 0 sower --version
grep -q '^CPU:' out || fail "sower --version does not name the CPU"

status 0 sower config
grep -q '^es.sigma ' out || fail "sower config does not list es.sigma"
status 0 sower config es.sigma
refused 2 "did you mean es.sigma" sower config es.sigmo
status 0 sower config --doc
cmp -s out "$source_folder/docs/CONFIG.md" || fail "docs/CONFIG.md is not what sower config --doc says"

status 0 sower info
python "sower info" out <<'EOF'
import json, sys
d = json.load(open(sys.argv[1]))
for key in "sower commit compiler numerics mpi cpu kernels threads blas memory".split():
    if key not in d:
        print("lacks", key)
EOF
status 0 sower info "$sprout"
python "sower info MODEL" out <<'EOF'
import json, sys
d = json.load(open(sys.argv[1]))
if (d["parameters"], d["vocab_size"], d["tokenizer"], d["embedding"]) != (344736, 128, 128, "tied"):
    print(d)
EOF
status 0 sower info --tasks
grep -q countdown out || fail "sower info --tasks does not list countdown"

# What cannot be read or written.
refused 1 "stdout: cannot write" sh -c "'$SOWER_BIN' config >&-"
refused 1 "stdout: cannot write" sh -c "'$SOWER_BIN' tokenize '$sprout' abc >/dev/full"
refused 1 "is not there" sower generate no-such-model abc
refused 1 "cannot" sower init -o /proc/sower/model
refused 2 "expected -o" sower init
refused 2 "did you mean shape.hidden_size" sower init -o model --set shape.hidden_sise=3
refused 2 "expected 1 rank" env OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 "$SOWER_BIN" info
refused 2 "expected 1 rank" env SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=0 "$SOWER_BIN" info # srun
mkdir model && touch model/file
refused 1 "not empty" sower init -o model
echo '{"id": 1, "prompt": "x"' >broken.jsonl
refused 1 "broken.jsonl:1: is not JSON" sower generate "$sprout" --input broken.jsonl
echo '[1]' >list.jsonl
refused 1 "list.jsonl:1: is no object" sower score "$sprout" --input list.jsonl
echo '{"id": 1, "ids": [5, 128]}' >ids.jsonl
refused 1 "ids.jsonl:1: ids[1]: 128" sower generate "$sprout" --input ids.jsonl
echo '{"id": 1, "context": "a"}' >half.jsonl
refused 1 "half.jsonl:1: continuation: is missing" sower score "$sprout" --input half.jsonl
refused 2 "temperature" sower generate "$sprout" abc --temperature warm
refused 2 "did you mean countdown" sower eval "$sprout" --task countdow
refused 2 "--task" sower eval "$sprout"
refused 2 "is no task" sower grade nonsense --input half.jsonl
refused 1 "config.yaml" sower verify .
refused 1 "status.json" sower status .
finish

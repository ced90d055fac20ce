# shellcheck shell=bash
# A compiler with a wasm32-unknown-unknown standard library. The choice is recorded in wasm.env for build-wasm.

# rustup waits for ever where its server cannot be reached.
RUSTUP_TARGET_TIMEOUT_S=60

install_wasm() {
  local version
  version="$(rustc --version)"
  if stamped wasm "$version" "$TIDEGATE_TOOLS/wasm.env" && wasm_choice_works; then
    return
  fi
  if wasm_target_present; then
    record_wasm_target
  elif debian_wasm_present; then
    record_debian_wasm
  elif add_wasm_target; then
    record_wasm_target
  else
    install_debian_wasm
    record_debian_wasm
  fi
  stamp wasm "$version"
}

wasm_target_present() { [[ -d "$(rustc --print target-libdir --target wasm32-unknown-unknown)" ]]; }

# debian_wasm_present: Debian's compiler is new enough and has the library sources that -Zbuild-std compiles.
debian_wasm_present() {
  local version sysroot
  [[ -x /usr/bin/rustc ]] && command -v "$WASM_LINKER" >/dev/null || return 1
  version="$(/usr/bin/rustc --version | cut -d' ' -f2)"
  sysroot="$(/usr/bin/rustc --print sysroot)"
  [[ -d "$sysroot/lib/rustlib/src/rust/library" ]] &&
    [[ "$(printf '%s\n%s\n' "$RUST_VERSION_MIN" "${version%%-*}" | sort -V | head -n1)" == "$RUST_VERSION_MIN" ]]
}

wasm_choice_works() {
  if grep -q '^WASM_STD=target$' "$TIDEGATE_TOOLS/wasm.env"; then
    wasm_target_present
  else
    debian_wasm_present
  fi
}

# add_wasm_target: the ordinary way. A failure is remembered, so that the wait is paid once on a machine.
add_wasm_target() {
  local marker="$TIDEGATE_TOOLS/rustup-target-add.failed"
  command -v rustup >/dev/null || return 1
  if [[ -f "$marker" ]]; then
    say "not asking rustup for wasm32 again: it failed here before (delete $marker to retry)"
    return 1
  fi
  say "asking rustup for the wasm32-unknown-unknown standard library (at most $RUSTUP_TARGET_TIMEOUT_S s)"
  if timeout "$RUSTUP_TARGET_TIMEOUT_S" rustup target add wasm32-unknown-unknown </dev/null && wasm_target_present; then
    return 0
  fi
  say "rustup could not fetch it"
  : >"$marker"
  return 1
}

install_debian_wasm() {
  local -a packages
  read -ra packages <<<"$WASM_DEBIAN_PACKAGES"
  if ! can_apt; then
    die "no wasm32-unknown-unknown standard library: run 'rustup target add wasm32-unknown-unknown'," \
      "or on Debian 12: sudo apt-get install $WASM_DEBIAN_PACKAGES"
  fi
  apt_install "${packages[@]}" ||
    die "apt-get could not install $WASM_DEBIAN_PACKAGES; 'rustup target add wasm32-unknown-unknown' is the other way"
  debian_wasm_present ||
    die "Debian's rustc is older than $RUST_VERSION_MIN; enable the -security suite, or use rustup's wasm32 target"
}

record_wasm_target() {
  say "wasm32: the Rust toolchain's own target"
  printf 'WASM_STD=target\n' >"$TIDEGATE_TOOLS/wasm.env"
}

record_debian_wasm() {
  say "wasm32: $(/usr/bin/rustc --version | cut -d' ' -f1,2) of Debian, standard library built from its sources"
  printf 'WASM_STD=debian\nWASM_RUSTC=/usr/bin/rustc\nWASM_LINKER=%s\n' "$WASM_LINKER" >"$TIDEGATE_TOOLS/wasm.env"
}

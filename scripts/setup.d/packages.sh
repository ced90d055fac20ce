# shellcheck shell=bash
# The machine itself: what it must be, and the system packages that the rest of the set-up and the build need.

apt_lists_fresh=no

check_machine() {
  local system
  system="$(uname -s) $(uname -m)"
  if [[ "$system" != "Linux x86_64" ]]; then
    die "prebuilt parts are pinned for Linux x86_64 and this is $system;" \
      "use a Linux x86_64 machine, virtual machine or container"
  fi
  if ! grep -qw avx2 /proc/cpuinfo; then
    say "this CPU has no AVX2: build with CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS= (the local model will be slow)"
  fi
}

# can_apt: whether this user may install Debian packages.
can_apt() { [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: by apt as root; the package lists are refreshed once a set-up.
apt_install() {
  say "installing Debian packages: $*"
  if [[ "$apt_lists_fresh" == no ]]; then
    DEBIAN_FRONTEND=noninteractive apt-get update -qq || say "apt-get update failed; trying with the lists there are"
    apt_lists_fresh=yes
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need_packages REASON PACKAGE...: installs them, or says what to install by hand.
need_packages() {
  local reason="$1"
  shift
  if can_apt; then
    apt_install "$@" || die "apt-get could not install: $* (needed for $reason); its own words are above"
  else
    die "$reason needs packages that are missing here and this user cannot install them;" \
      "on Debian or Ubuntu: sudo apt-get install $* (elsewhere: their equivalents), then run this again"
  fi
}

install_build_packages() {
  local -a missing=()
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  command -v make >/dev/null || missing+=(make)
  command -v c++ >/dev/null || missing+=(g++ libc6-dev)
  command -v curl >/dev/null || missing+=(curl ca-certificates)
  # librdkafka is built from source (Debian's is too old); etcd's client compiles its protocol.
  command -v cmake >/dev/null || missing+=(cmake)
  command -v protoc >/dev/null || missing+=(protobuf-compiler libprotobuf-dev)
  command -v python3 >/dev/null || missing+=(python3 python3-pip python3-venv)
  if ((${#missing[@]} > 0)); then
    need_packages "the build" "${missing[@]}"
  fi
}

# require_python: pip and venv for python3; called only when something has to be downloaded.
require_python() {
  local -a missing=()
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "python3 is $(python3 -V 2>&1) and the pinned packages need 3.11 or newer; put a newer python3 first on PATH"
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if ((${#missing[@]} > 0)); then
    need_packages "downloading Python wheels" "${missing[@]}"
  fi
}

# check_rust: cargo is there and new enough. Installing Rust itself is left to the person: it is theirs to choose how.
check_rust() {
  local found
  if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    die "no cargo on PATH; install Rust $RUST_VERSION_MIN or newer with rustup (https://rustup.rs)"
  fi
  found="$(cd "$TIDEGATE_ROOT" && rustc --version | cut -d' ' -f2)"
  if [[ "$(printf '%s\n%s\n' "$RUST_VERSION_MIN" "${found%%-*}" | sort -V | head -n1)" != "$RUST_VERSION_MIN" ]]; then
    die "rustc is $found and the workspace needs $RUST_VERSION_MIN or newer; run: rustup update stable"
  fi
}

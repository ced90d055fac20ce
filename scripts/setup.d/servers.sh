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

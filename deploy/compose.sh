#!/usr/bin/env bash
# docker compose with the versions of scripts/versions.env; the arguments are compose's own (build, up, config, ...).
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose >/dev/null; then
  compose=(docker-compose)
else
  echo "compose.sh: neither 'docker compose' nor 'docker-compose' is here; install Docker with its compose plugin" >&2
  exit 1
fi
exec "${compose[@]}" --env-file scripts/versions.env "$@"

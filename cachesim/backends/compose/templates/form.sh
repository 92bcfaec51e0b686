#!/bin/sh
# Makes the Redis nodes one healthy cluster, after the first start and after any other. Repeating it
# is harmless. Arguments: cluster-node-timeout in ms, the seconds it may take, and the nodes, the
# wanted primary first. The working directory is this folder.
#
# In the nodes.conf of the first start all are replicas of a predecessor that owns the slots and was
# never there. So the wanted primary is well at once, takes over, the others follow it, and all forget
# the predecessor. Redis would need much longer to form a cluster by itself.
set -eu

predecessor=0000000000000000000000000000000000000000
orphaned='master_port:1[[:space:]]*$' # what "info replication" says of its replicas

node_timeout=$1
limit=$2
shift 2
primary=$1
deadline=$(($(date +%s) + limit))

if [ ! -r secrets/admin-password ]; then
  echo "This folder has no secrets yet. Run 'cachesim compose .' in it, and bring it up again." >&2
  exit 1
fi
REDISCLI_AUTH=$(cat secrets/admin-password)
export REDISCLI_AUTH

ask() { # node, command: over the zones' network, past all proxies
  host=pod-${1##*-}
  shift
  timeout 2 redis-cli --tls --cacert secrets/ca.pem --user cachesim -h "$host" "$@" 2>&1 || true
}

says() { # node, beginnings of a line, command: does the answer have such a line?
  asked=$1 line=$2
  shift 2
  ask "$asked" "$@" | grep -E "^($line)" >/dev/null
}

set_everywhere() { # key, value, nodes
  key=$1 value=$2
  shift 2
  for node; do ask "$node" config set "$key" "$value" >/dev/null; done
}

step() { # the nodes: does the next thing towards health, and sets $missing to what is not there yet
  for node; do
    missing="$node does not answer"
    says "$node" PONG ping || return 0
  done
  missing="$primary has not taken over"
  if says "$primary" "$orphaned" info replication; then
    ask "$primary" cluster failover takeover >/dev/null
    return
  fi
  if [ -z "$met" ]; then
    set_everywhere cluster-node-timeout 200 "$@" # gossip goes as quickly as it allows
    set_everywhere min-replicas-to-write 0 "$@"  # what a control plane may have left
    met=yes
  fi
  for node; do
    missing="$node has no link to its primary"
    if says "$node" "$orphaned" info replication; then # until it hears of the takeover, at least
      ask "$node" cluster replicate "$(ask "$primary" cluster myid)" >/dev/null
      return
    fi
    says "$node" 'role:master|master_link_status:up' info replication || return 0
  done
  # Not earlier: after a restart it may not have all data yet.
  missing="$primary is not the primary"
  if says "$primary" role:slave info replication; then
    ask "$primary" cluster failover takeover >/dev/null
    return
  fi
  for node; do
    missing="$node is not well"
    says "$node" cluster_state:ok cluster info || return 0
  done
  for node; do
    missing="$node knows a node that is not there"
    if says "$node" "$predecessor" cluster nodes; then
      ask "$node" cluster forget "$predecessor" >/dev/null
      return
    fi
  done
  missing="$primary has not all replicas"
  says "$primary" "connected_slaves:$(($# - 1))" info replication || return 0
  for node; do
    missing="$node does not list all nodes"
    if [ "$(ask "$node" cluster slots | grep -cE '^[0-9a-f]{40}')" -ne $# ]; then
      # Redis 7.0 leaves replicas at offset 0 out for 11 s.
      ask "$primary" set cachesim 1 >/dev/null
      ask "$primary" del cachesim >/dev/null
      return
    fi
  done
  missing=""
}

met=""
until step "$@" && [ -z "$missing" ]; do
  if [ "$(date +%s)" -ge "$deadline" ]; then
    echo "$missing after $limit s. See 'docker compose logs ${missing%% *}'." >&2
    exit 1
  fi
  sleep 0.05
done
set_everywhere cluster-node-timeout "$node_timeout" "$@"
echo "$primary is the primary of a healthy cluster."

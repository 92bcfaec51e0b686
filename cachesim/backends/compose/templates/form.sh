#!/bin/sh
# Makes the Redis nodes one healthy cluster, after the first start and after any other. Repeating it
# is harmless. Arguments: cluster-node-timeout in ms, the timeout in seconds, and the nodes as
# NAME@POD, the wanted primary first. The working directory is this folder.
#
# In the nodes.conf of the first start all nodes are replicas of a placeholder that owns the slots
# and never existed. So the wanted primary is ok at once and takes over, the others follow it, and
# all forget the placeholder. Redis by itself would take much longer to form a cluster.
set -eu

placeholder=0000000000000000000000000000000000000000
follows_placeholder='master_port:1[[:space:]]*$' # in a replica's "info replication"

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
  host=${1#*@}
  shift
  timeout 2 redis-cli --tls --cacert secrets/ca.pem --user cachesim -h "$host" "$@" 2>&1 || true
}

answers() { # node, pattern, command: does a line of the answer begin with the pattern?
  asked=$1 pattern=$2
  shift 2
  ask "$asked" "$@" | grep -E "^($pattern)" >/dev/null
}

set_everywhere() { # key, value, nodes
  key=$1 value=$2
  shift 2
  for node; do ask "$node" config set "$key" "$value" >/dev/null; done
}

expect() { # node, problem: what is wrong, and of which node, unless the next check succeeds
  culprit=${1%@*} problem=$2
}

step() { # nodes: does the next step, and sets $problem to what is still missing, or to nothing
  for node; do
    expect "$node" "does not answer"
    answers "$node" PONG ping || return 0
  done
  expect "$primary" "has not taken over"
  if answers "$primary" "$follows_placeholder" info replication; then
    ask "$primary" cluster failover takeover >/dev/null
    return
  fi
  if [ -z "$prepared" ]; then
    set_everywhere cluster-node-timeout 200 "$@" # the lower it is, the faster is gossip
    set_everywhere min-replicas-to-write 0 "$@"  # a control plane may have left another value
    prepared=yes
  fi
  for node; do
    expect "$node" "has no link to its primary"
    if answers "$node" "$follows_placeholder" info replication; then # it missed the takeover so far
      ask "$node" cluster replicate "$(ask "$primary" cluster myid)" >/dev/null
      return
    fi
    answers "$node" 'role:master|master_link_status:up' info replication || return 0
  done
  # Not earlier: after a restart it may lack data.
  expect "$primary" "is not the primary"
  if answers "$primary" role:slave info replication; then
    ask "$primary" cluster failover takeover >/dev/null
    return
  fi
  for node; do
    expect "$node" "has a cluster_state other than ok"
    answers "$node" cluster_state:ok cluster info || return 0
  done
  for node; do
    expect "$node" "still knows the placeholder"
    if answers "$node" "$placeholder" cluster nodes; then
      ask "$node" cluster forget "$placeholder" >/dev/null
      return
    fi
  done
  expect "$primary" "lacks replicas"
  answers "$primary" "connected_slaves:$(($# - 1))" info replication || return 0
  for node; do
    expect "$node" "does not list all nodes"
    if [ "$(ask "$node" cluster slots | grep -cE '^[0-9a-f]{40}')" -ne $# ]; then
      # Redis 7.0 leaves replicas at offset 0 out for 11 s.
      ask "$primary" set cachesim 1 >/dev/null
      ask "$primary" del cachesim >/dev/null
      return
    fi
  done
  problem=""
}

prepared=""
until step "$@" && [ -z "$problem" ]; do
  if [ "$(date +%s)" -ge "$deadline" ]; then
    echo "$culprit $problem after $limit s. See 'docker compose logs $culprit'." >&2
    exit 1
  fi
  sleep 0.05
done
set_everywhere cluster-node-timeout "$node_timeout" "$@"
echo "${primary%@*} is the primary of a healthy cluster."

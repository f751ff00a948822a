#!/bin/sh
# Makes of new namespaces (unshare: mounts, network, processes) a machine of its own for one node of a cluster,
# and runs a command there. This shell is their first process: when it ends everything in them ends, and
# mounts, addresses and packet filters are gone with them.
#
#   namespace.sh ADDRESS SERVICES COMMAND…      SERVICES: the network of the Services' addresses
set -eu
address=$1
services=$2
shift 2
ip link set lo up
ip address add "$address/32" dev lo
# kube-proxy turns these addresses into those of pods, but not before there is a way to them.
ip route add "$services" dev lo src "$address"
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
for directory in /var/lib/cni /var/lib/kubelet; do
  mkdir -p "$directory"
  mount -t tmpfs tmpfs "$directory"
done
# Not exec: the first process has to wait for orphans, which this shell does and the command may not.
"$@"

#!/bin/sh
# Installs what `npm run test:cluster` and scripts/base-image.sh need besides Node.js and Go, on Debian and Ubuntu.
set -eu
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update -q
$as_root apt-get install -qy --no-install-recommends \
  buildah ca-certificates conntrack containerd containernetworking-plugins iproute2 iptables mmdebstrap runc util-linux

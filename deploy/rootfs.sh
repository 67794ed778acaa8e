#!/usr/bin/env bash
# Make the image's files in a directory: the binary, CA certificates, licence, a list of
# the modules inside (SBOM), and /tmp with 1777, whatever the builder makes of modes.
#   deploy/rootfs.sh DIR [VERSION]
# GOOS and GOARCH choose the platform, TAGS and CGO_ENABLED the build. The Dockerfiles run
# it, and so does `make e2e`.
set -euo pipefail
CYCLONEDX=v1.9.0
dir=$1 version=${2:-0.1.0-dev}
mkdir -p "$dir/tmp" "$dir/etc/ssl/certs" "$dir/usr/share/agrdist"
chmod 1777 "$dir/tmp"
CGO_ENABLED=${CGO_ENABLED:-0} go build -tags "grpcnotrace${TAGS:+,$TAGS}" -trimpath -buildvcs=false \
  -ldflags "-s -w -X github.com/agrdist/agrdist/internal/version.Version=$version" -o "$dir/agrdist" ./cmd/agrdist
cp LICENSE NOTICE "$dir/"
cp /etc/ssl/certs/ca-certificates.crt "$dir/etc/ssl/certs/"
GOOS='' GOARCH='' CGO_ENABLED=0 GOFLAGS='' go run "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$CYCLONEDX" \
  bin -json -noserial -std -version "v${version#v}" -output "$dir/usr/share/agrdist/sbom.cdx.json" "$dir/agrdist"

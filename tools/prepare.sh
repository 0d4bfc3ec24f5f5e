#!/usr/bin/env bash
# Installs what the suites need on a Debian machine with Go, and does nothing where it is there already.
# On another system it says what is missing; the suites then fail and name it too.
#   postgresql-15, -pgaudit   the postgres suite starts a server of its own from their programs
#   python3-hl7, openssl      peers of the interop suite; its npm peers are pinned in interop/package.json
#   gcc, libc6-dev            the race detector; the product itself builds without cgo
#   strace                    watches writes, syncs and sockets in the faults suite
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=(postgresql-15 postgresql-15-pgaudit python3-hl7 openssl strace)
command -v gcc >/dev/null || wanted+=(gcc libc6-dev)
command -v git >/dev/null || wanted+=(git)
command -v npm >/dev/null || wanted+=(npm)
command -v make >/dev/null || wanted+=(make)
command -v setpriv >/dev/null || wanted+=(util-linux)

if ! command -v dpkg-query >/dev/null; then
	echo "prepare: no Debian here; the suites need the programs of: ${wanted[*]}" >&2
	exit 0
fi
missing=()
for p in "${wanted[@]}"; do
	dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
	echo "prepare: installing ${missing[*]}"
	sudo=()
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || { echo "prepare: run as root once, or install: ${missing[*]}" >&2; exit 1; }
		sudo=(sudo)
	fi
	"${sudo[@]}" apt-get update -qq
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v go >/dev/null || { echo "prepare: Go is missing: https://go.dev/dl" >&2; exit 1; }

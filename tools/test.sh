#!/usr/bin/env bash
# Runs the suites named on the command line and prints what they did; ends with 0 only if all of it passed.
# The times given to the suites are limits, not expectations; they are for two slow cores. Nothing is taken from Go's test
# cache: it does not see that a file was added, nor what lies outside the module.
set -uo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { echo "test: name suites, or say: make help" >&2; exit 2; }

export GOFLAGS=-mod=readonly GOWORK=off
unset LAZARET_TEST_POSTGRES
results=$(mktemp -d "${TMPDIR:-/tmp}/lazaret-test.XXXXXX")
. tools/postgres.sh
trap 'stop_postgres; rm -rf "$results"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { "$sum" step -suite lint -into "$results" -timeout 5m "$@"; }
fips() { "$sum" step -suite fips -into "$results" "$@"; }
run() { "$sum" run -into "$results" -elsewhere LAZARET_TEST_POSTGRES "$@"; }

# tagged TAG: the directories and the tests of files that are built only with this tag.
tagged() { grep -rlE --include='*_test.go' --exclude-dir=node_modules "^//go:build .*\b$1\b" . || true; }
tests_in() { sed -nE 's/^func (Test[A-Za-z0-9_]*)\(.*/\1/p' "$@" | sort -u | paste -sd'|'; }
dirs_of() { printf '%s\n' "$@" | xargs -n1 dirname | sort -u; }

suite_lint() {
	mapfile -t files < <(git ls-files --cached --others --exclude-standard -- '*.go' | xargs ls 2>/dev/null)
	step -name gofmt -silent -- gofmt -l "${files[@]}"
	step -name 'go vet' -- go vet ./...
	step -name 'go vet, tagged files' -- go vet -tags 'interop faults' ./...
	step -name staticcheck -- go tool -modfile=tools/staticcheck/go.mod staticcheck ./...
	step -name 'staticcheck, tagged files' -- go tool -modfile=tools/staticcheck/go.mod staticcheck -tags 'interop faults' ./...
	step -name 'go mod tidy' -silent -- go mod tidy -diff
	step -name 'a static binary builds' -- env CGO_ENABLED=0 go build -trimpath -o "$results/lazaret" ./cmd/lazaret
	step -name 'shell syntax' -- bash -n tools/test.sh tools/postgres.sh tools/prepare.sh tools/fuzz.sh .ci/run
}

# Everything but the command and what has a suite of its own.
suite_unit() {
	mapfile -t pkgs < <(go list ./... | grep -v '/cmd/')
	run -suite unit -timeout 6m -- go test -count=1 -timeout 5m "${pkgs[@]}"
}

# The real binary, by scripts.
suite_command() { run -suite command -timeout 4m -- go test -count=1 -timeout 3m ./cmd/...; }

suite_race() {
	mapfile -t pkgs < <(go list ./... | grep -v '/internal/house\|/tools/')
	run -suite race -timeout 8m -- go test -count=1 -race -short -timeout 6m "${pkgs[@]}"
}

# The packages that can speak to PostgreSQL, once more, with a server.
suite_postgres() {
	mapfile -t files < <(grep -rlE --include='*_test.go' --exclude-dir=house 'LAZARET_TEST_POSTGRES|internal/db/dbtest"' internal cmd)
	[ ${#files[@]} -gt 0 ] || return
	mapfile -t dirs < <(dirs_of "${files[@]}")
	if start_postgres; then
		run -suite postgres -proof PostgreSQL -timeout 5m -- go test -count=1 -timeout 4m "${dirs[@]/#/./}"
		stop_postgres
	fi
}

suite_interop() {
	run -suite interop -timeout 4m -- go test -count=1 -tags interop -timeout 3m ./interop/...
}

# Everything that encrypts, in a binary built with the certified version of Go's FIPS 140-3 module, which is on there; then the
# command and the demo so, and at last the module of an ordinary build switched on.
suite_fips() {
	mapfile -t pkgs < <(ls -d internal/{seal,kms,audit,config,engine,backup} 2>/dev/null)
	LAZARET_TEST_FIPS=on GOFIPS140=certified run -suite fips -timeout 5m -- go test -count=1 -short -timeout 4m "${pkgs[@]/#/./}"
	GOFIPS140=certified fips -name 'the command, certified' -timeout 3m -- \
		go test -count=1 -timeout 2m -run 'Scripts/(key|key_passphrase|demo_once)$' ./cmd/lazaret
	LAZARET_TEST_FIPS=on GODEBUG=fips140=on fips -name 'switched on' -timeout 2m -- go test -count=1 -short -timeout 90s ./internal/seal
}

# kill -9 under load and what else breaks a machine; only the tests of the tagged files, for the others ran already.
suite_faults() {
	mapfile -t files < <(tagged faults)
	[ ${#files[@]} -gt 0 ] || return
	mapfile -t dirs < <(dirs_of "${files[@]}")
	start_postgres || return
	run -suite faults -timeout 6m -- go test -count=1 -tags faults -timeout 5m -run "^($(tests_in "${files[@]}"))\$" "${dirs[@]}"
	stop_postgres
}

for suite in "$@"; do
	declare -F "suite_$suite" >/dev/null || { echo "test: there is no suite $suite; say: make help" >&2; exit 2; }
done
tools/prepare.sh || exit 2
sum=$results/testsum
go build -o "$sum" ./tools/testsum || exit 2

part=() # fewer suites than there are: a skip that points to another one may stand
[ $# -ge "$(declare -F | grep -c ' suite_')" ] || part=(-part)
for suite in "$@"; do
	"suite_$suite" || true
done
"$sum" report -into "$results" -want "$*" "${part[@]}"

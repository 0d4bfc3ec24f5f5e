# What the suites are and how to run them: CONTRIBUTING.md. All the work is done by tools/test.sh.

SUITES = lint unit command race postgres interop fips faults

.PHONY: test $(SUITES) prepare fuzz bench build help

# Everything a change must pass, on a fresh Debian machine with Go. The last line printed is "N passed, N failed, N skipped".
test:
	@tools/test.sh $(SUITES)

$(SUITES):
	@tools/test.sh $@

# Debian packages and Go modules that the suites need; asks for nothing that is there already.
prepare:
	@tools/prepare.sh

# Every fuzz target for FUZZTIME each.
fuzz:
	@tools/fuzz.sh

bench:
	go test -run '^$$' -bench . -benchmem -benchtime $(or $(BENCHTIME),1s) ./...

build:
	CGO_ENABLED=0 go build -trimpath -o bin/lazaret ./cmd/lazaret

help:
	@echo 'make test       all suites: $(SUITES)'
	@echo 'make SUITE      one of them'
	@echo 'make prepare    install what they need (Debian)'
	@echo 'make fuzz       every fuzz target, FUZZTIME=20s each'
	@echo 'make bench      Go benchmarks, BENCHTIME=1s each'
	@echo 'make build      bin/lazaret, static'

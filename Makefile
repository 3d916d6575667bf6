GO      ?= go
TIMEOUT ?= 15m
FUZZTIME ?= 10s
tool     = $(GO) tool -modfile=tools/go.mod

.PHONY: all test race check fuzz cover bench docs exam faults clean

# The program: one static binary.
all:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/postern ./cmd/postern

test:
	$(GO) test -shuffle=on -timeout $(TIMEOUT) ./...

# Needs a C compiler.
race:
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout $(TIMEOUT) ./...

# What a machine can find without running the program.
check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'not formatted by gofmt'; exit 1; }
	$(GO) mod verify
	$(GO) vet ./...
	$(tool) staticcheck ./...
	sh tools/vuln.sh

# Each fuzz target for FUZZTIME.
fuzz:
	@$(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./... | while read -r dir; do \
		grep -ho '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go | cut -c 6- | while read -r target; do \
			echo "$$dir $$target"; \
			(cd "$$dir" && $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) .) || exit 1; \
		done || exit 1; \
	done

cover:
	$(GO) test -coverprofile=cover.out -coverpkg=./... ./...
	$(GO) tool cover -func=cover.out | tail -n 1

bench:
	$(GO) test -run '^$$' -bench . -benchmem -timeout $(TIMEOUT) ./...

# What is made from the code: the packages in rfc/index.txt, what `postern setup`
# prints in docs/, the reference docs/settings.md, the manual pages.
docs:
	$(GO) test -run '^TestRFCIndex$$' . -update
	$(GO) test -run '^Test(SetupDocuments|SettingsDocument)$$' ./cmd/postern -update-docs
	$(GO) run ./cmd/postern man bin/man

# The exam of an SMTP gateway: POSTERN_EXAM says where it is.
exam:
	testdata/exam/run.sh

# Crashes, disk and load; needs root.
faults:
	testdata/exam/faults.sh killloop direct inject diskfull idle slow slowread fds big

clean:
	rm -rf bin cover.out

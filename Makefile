# Every command of the project; each line calls cargo or one script under tools/.
CARGO  ?= cargo
PYTHON ?= python3
SERVER  = target/release/headstart

# Tests and benches load ONNX Runtime too; it must not send usage events from there either.
export ORT_DISABLE_TELEMETRY = 1

.PHONY: serve build setup test check verify prove fmt lint docs tidy openapi manifests bench bench-train fuzz backbones

# Serve the bundled backbones on 127.0.0.1:8080.
serve: build
	$(SERVER) serve --models models --data data

build: setup
	$(CARGO) build --release --locked

# The ONNX Runtime library, fetched once and pinned by hash.
setup:
	$(PYTHON) tools/setup/onnxruntime.py

# Rust tests first, then the release server driven by real clients from Python.
test: build
	$(CARGO) test --release --locked --workspace
	$(PYTHON) tests/python/run.py

# All that must hold before a change is taken.
check: test verify

# What takes long or needs more tools (Chromium, prometheus, strace); each proof skips itself where its tool is absent.
prove: build
	$(PYTHON) tests/python/run.py --prove -rs

# `check` without the tests.
verify: build fmt lint docs tidy
	$(SERVER) openapi | diff - openapi/openapi.json

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps --document-private-items

tidy:
	$(CARGO) run --release --locked --package headstart-xtask -- tidy

# Write openapi/openapi.json from the code.
openapi: build
	$(SERVER) openapi > openapi/openapi.json

# Write deploy/kubernetes/ from the Helm chart; helm itself is fetched, pinned by hash.
manifests:
	$(PYTHON) tools/deploy/fetch.py
	$(PYTHON) tools/deploy/manifests.py

# Throughput and latency against ONNX Runtime called directly, in one run, BENCH=sound-throughput for sounds; BENCH=fine-tuning, image-backbones,
# sound: what classifiers get right; BENCH=zero-shot: labels alone; BENCH=words: word vectors, or one part of that,
# BENCH="words calibration"; BENCH=soak: half an hour of clients of every kind, and sums that must come out even; BENCH=tuning, or
# "tuning CASE": backbones trained.
bench: build
ifneq ($(filter fine-tuning image-backbones,$(BENCH)),)
	$(PYTHON) benches/fine_tuning/run.py $(BENCH)
else ifneq ($(filter sound sound-throughput,$(BENCH)),)
	$(PYTHON) benches/sound/run.py $(BENCH)
else ifneq ($(filter zero-shot,$(BENCH)),)
	$(PYTHON) benches/zero_shot/run.py
else ifneq ($(filter soak,$(BENCH)),)
	$(PYTHON) benches/soak/run.py $(filter-out soak,$(BENCH))
else ifeq ($(firstword $(BENCH)),tuning)
	$(PYTHON) benches/tuning/run.py $(wordlist 2,$(words $(BENCH)),$(BENCH))
else ifeq ($(firstword $(BENCH)),words)
	$(PYTHON) benches/words/run.py $(wordlist 2,$(words $(BENCH)),$(BENCH))
else
	$(CARGO) run --release --locked --package headstart-load -- $(BENCH)
endif

# Whole training steps beside PyTorch eager on the same cores; BENCH="--case minilm-16x32" for one case. Fetches PyTorch, once.
bench-train: setup
	$(CARGO) build --release --locked --package headstart-bench-training
	$(PYTHON) benches/training/run.py $(BENCH)

# Feed bytes of every kind to whatever reads bytes from outside: SECONDS each, FUZZ_JOBS at a time,
# FUZZ_TARGET alone where it is named.
SECONDS ?= 600
FUZZ_JOBS ?= 1
fuzz: setup
	$(PYTHON) fuzz/run.py --seconds $(SECONDS) --jobs $(FUZZ_JOBS) $(FUZZ_TARGET)

# Rebuild the bundled backbones and compare them with the committed files.
backbones:
	$(PYTHON) tools/backbones/build.py

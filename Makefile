# The two commands of the README, and the checks they are made of. Everything lives in .venv/ and build/.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# An editable install knows the files that were there when it was made, so folders count too: a new file makes it anew.
SOURCES := $(wildcard csrc/*.cpp csrc/*.hpp csrc/*.h csrc/bindings/*) CMakeLists.txt $(shell find stale_edge -type d ! -name __pycache__)

.PHONY: demo test lint types cpp python runtimes fuzz mutants hashes docs clean

demo: $(INSTALLED)  ## simulate, train, evaluate, export, check, detect, bench; then open demo/report.html
	$(BIN)/stale-edge demo --out demo

test: lint types cpp python  ## everything CI checks on a source tree

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

cpp: $(INSTALLED)  ## the C++ core alone, without Python, under AddressSanitizer and UBSan
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cmake -S . -B build/core -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DSTALE_EDGE_PYTHON=OFF -DSTALE_EDGE_TESTS=ON -DSTALE_EDGE_SANITIZE=ON -DSTALE_EDGE_WERROR=ON
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cmake --build build/core
	$(BIN)/ctest --test-dir build/core --output-on-failure

python: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist worksteal

runtimes: $(INSTALLED)  ## build and test the programs of export/, all or RUNTIMES="c rust", and print their table
	$(BIN)/python export/runtimes.py $(RUNTIMES)

fuzz: $(INSTALLED)  ## hostile input to every reader and to every entry of the core, SECONDS each (10 unless given)
	@if command -v clang++ >/dev/null; then \
		export PATH="$(CURDIR)/$(BIN):$$PATH" CC=clang CXX=clang++ && \
		cmake -S . -B build/fuzz-core -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSTALE_EDGE_PYTHON=OFF \
			-DSTALE_EDGE_TESTS=ON -DSTALE_EDGE_SANITIZE=ON -DSTALE_EDGE_FUZZ=ON >/dev/null && \
		cmake --build build/fuzz-core -- --quiet; \
	else echo "clang is not installed, so the C++ core is not fuzzed; on Debian: apt-get install clang"; fi
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),10)

docs: $(INSTALLED)  ## the site, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

mutants: $(INSTALLED)  ## change MODULE, or what was changed in 7 days, in one place at a time; print what no test notices
	$(BIN)/pip install --quiet --disable-pip-version-check 'cosmic-ray>=8.4,<9'
	$(BIN)/python tests/mutants.py $(MODULE)

hashes: $(INSTALLED)  ## write constraints-hashes.txt anew, after a change of constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.5,<1'
	grep -v '^#\|^torch==' constraints.txt | $(BIN)/uv pip compile --quiet --no-deps --universal --python-version 3.11.9 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url -o build/hashes.txt -
	(grep '^#' constraints-hashes.txt; cat build/hashes.txt) >build/constraints-hashes.txt
	mv build/constraints-hashes.txt constraints-hashes.txt

$(INSTALLED): pyproject.toml constraints.txt constraints-hashes.txt $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement constraints-hashes.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf build demo site .venv

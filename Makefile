# Each target does the set-up that is still missing. `make help` lists them; README.md says more.
PYTHON ?= python3
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# What the command and the Python package are built with, and what tests and benchmarks need besides.
PACKAGES := g++ cmake ninja-build python3-venv python3-dev libcli11-dev nlohmann-json3-dev libtomlplusplus-dev \
            libfmt-dev libexpected-dev liburing-dev libcsv-dev libxxhash-dev libssl-dev zlib1g-dev libjs-chart.js
TEST_PACKAGES := libgtest-dev libgmock-dev chromium clang

.DEFAULT_GOAL := help
.PHONY: help demo test check test-all lint tidy bench build cuda gpu validate soak soak-short bundle wheel packages format clean configured
help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 12
demo: build/build.ninja ## build the command, then train a small model by each strategy; installs only what that needs
	cmake --build build --target memo
	scripts/demo
build: configured ## build the command, the Python package, tests and benchmarks
	cmake --build build
test: build ## all tests
	scripts/test
check: .venv/.done .venv/.test-packages ## build and test all that needs no LibTorch, in build-check
	cmake -S . -B build-check -G Ninja -DMEMO_TORCH=OFF
	cmake --build build-check --target memo tests/all
	ctest --test-dir build-check --output-on-failure -j "$$(nproc)"
test-all: ## what every change must pass (.ci/run), then what takes longer: scripts/test_all
	scripts/test_all
lint: .venv/.tests ## clang-format over C++, ruff over Python, clang-tidy over changed C++ sources
	git ls-files '*.h' '*.cpp' | xargs .venv/bin/clang-format --dry-run --Werror
	.venv/bin/ruff check python/memo tests scripts benchmarks
	scripts/tidy changed
tidy: .venv/.tests ## clang-tidy over all C++ sources
	scripts/tidy all
format: .venv/.tests ## format the C++ sources
	git ls-files '*.h' '*.cpp' | xargs .venv/bin/clang-format -i
bench: build ## benchmarks that need no GPU
	scripts/bench
validate: configured ## estimates against published measurements: docs/validation.md
	cmake --build build --target memo
	.venv/bin/python benchmarks/validate.py
soak: configured ## kill and resume runs for 30 minutes
	cmake --build build --target memo
	.venv/bin/python benchmarks/soak.py --minutes 30 --least 200
soak-short: configured ## the same for 3 minutes
	cmake --build build --target memo
	.venv/bin/python benchmarks/soak.py --minutes 3 --least 20
cuda: build/build.ninja ## build the command against CUDA's LibTorch, where that is installed
	@grep -q '^MEMO_GPU:INTERNAL=ON' build/CMakeCache.txt || { echo "make cuda: needs nvcc and a LibTorch built with CUDA" >&2; exit 2; }
	cmake --build build --target memo
gpu: .venv/.tests ## tests and measurements on a GPU, MINUTES (9) a call; goes on from RESULTS (gpu-results)
	scripts/gpu
wheel: .venv/.done ## the Python package, for the Python and torch of .venv
	.venv/bin/pip wheel -q --no-deps -w build .
bundle: .venv/.done .venv/.test-packages ## an archive from which Memo builds without a network
	scripts/bundle $(filter-out python3-dev,$(filter %-dev libjs-%,$(PACKAGES) $(TEST_PACKAGES)))
packages: .venv/.packages ## the system packages that `pip install .` needs
clean: ## remove build and all other build folders
	rm -rf build build-*

# A build directory that `demo` or `cuda` configured first has no tests; `configured` adds them. It keeps them from then on.
demo cuda: first_options := -DMEMO_TESTS=OFF
build/build.ninja: CMakeLists.txt .venv/.done
	cmake -S . -B build -G Ninja $(if $(wildcard build/CMakeCache.txt),,$(first_options))
configured: .venv/.tests
	@if ! grep -qs '^MEMO_TESTS:BOOL=ON' build/CMakeCache.txt || [ .venv/.done -nt build/build.ninja ]; then \
	cmake -S . -B build -G Ninja -DMEMO_TESTS=ON; fi

ifeq ($(wildcard third_party),)
define install
@mkdir -p .venv
@missing=$$(for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
if [ -n "$$missing" ]; then $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $$missing; fi
@touch $@
endef
.venv/.packages: Makefile
	$(call install,$(PACKAGES))
.venv/.test-packages: Makefile .venv/.packages
	$(call install,$(TEST_PACKAGES))

.venv/.done: requirements.txt .venv/.packages
	[ -x .venv/bin/python ] || $(PYTHON) -m venv .venv
	.venv/bin/pip install -q --no-compile -r requirements.txt
	@touch $@
.venv/.tests: requirements-test.txt .venv/.done .venv/.test-packages
	.venv/bin/pip install -q --no-compile -r requirements-test.txt
	@touch $@
else  # An unpacked bundle installs nothing; the environment is the machine's Python, which has torch.
.venv/.done:
	@$(PYTHON) -c "import importlib.util as u, sys; sys.exit(not u.find_spec('torch') and '$(PYTHON) has no torch: make PYTHON=...')"
	@mkdir -p .venv/bin
	@scripts/bundled_wheels "$(PYTHON)" .venv/site
	@printf '#!/bin/sh\nPYTHONPATH="$${PYTHONPATH:+$$PYTHONPATH:}%s" exec "%s" "$$@"\n' "$(CURDIR)/.venv/site" \
	"$$(command -v $(PYTHON))" >.venv/bin/python && chmod +x .venv/bin/python
	@touch $@
.venv/.tests .venv/.test-packages: .venv/.done
	@touch $@
endif

# make demo | test | build | bench | cuda | gpu | validate | soak | soak-short | bundle | wheel | packages: each does the set-up that is still missing. See README.md.
PYTHON ?= python3
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PACKAGES := g++ cmake ninja-build python3-venv python3-dev libcli11-dev nlohmann-json3-dev libtomlplusplus-dev \
            libfmt-dev libexpected-dev libgtest-dev libgmock-dev liburing-dev libcsv-dev libxxhash-dev libssl-dev zlib1g-dev \
            libjs-chart.js chromium clang

.PHONY: demo test build bench cuda gpu validate soak soak-short bundle wheel packages clean format
demo: build/build.ninja
	cmake --build build --target memo
	scripts/demo
test: build
	scripts/test
bench: build
	scripts/bench
# The command against CUDA's LibTorch, where that is installed.
cuda: build/build.ninja
	@grep -q '^MEMO_GPU:INTERNAL=ON' build/CMakeCache.txt || { echo "make cuda: needs nvcc and a LibTorch built with CUDA" >&2; exit 2; }
	cmake --build build --target memo
gpu: build/build.ninja
	scripts/gpu
validate: build/build.ninja
	cmake --build build --target memo
	.venv/bin/python benchmarks/validate.py
# Kills and resumes: 30 minutes, and what CI takes of it.
soak: build/build.ninja
	cmake --build build --target memo
	.venv/bin/python benchmarks/soak.py --minutes 30 --least 200
soak-short: build/build.ninja
	cmake --build build --target memo
	.venv/bin/python benchmarks/soak.py --minutes 3 --least 20
bundle: .venv/.done
	scripts/bundle $(filter-out python3-dev,$(filter %-dev libjs-%,$(PACKAGES)))
# The Python package, for the Python and torch of .venv.
wheel: .venv/.done
	.venv/bin/pip wheel -q --no-deps -w build .
build: build/build.ninja
	cmake --build build

build/build.ninja: CMakeLists.txt .venv/.done
	cmake -S . -B build -G Ninja

ifeq ($(wildcard third_party),)
.venv/.packages: Makefile
	@mkdir -p .venv
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $$missing; fi
	@touch $@
packages: .venv/.packages  # alone, for pip install

.venv/.done: requirements.txt .venv/.packages
	[ -x .venv/bin/python ] || $(PYTHON) -m venv .venv
	.venv/bin/pip install -q -r requirements.txt
	@touch $@
else  # An unpacked bundle installs nothing; the environment is the machine's Python, which has torch.
.venv/.done:
	@$(PYTHON) -c "import importlib.util as u, sys; sys.exit(not u.find_spec('torch') and '$(PYTHON) has no torch: make PYTHON=...')"
	@mkdir -p .venv/bin
	@printf '#!/bin/sh\nexec "%s" "$$@"\n' "$$(command -v $(PYTHON))" >.venv/bin/python && chmod +x .venv/bin/python
	@touch $@
endif

format:
	clang-format -i $$(git ls-files '*.h' '*.cpp')
clean:
	rm -rf build

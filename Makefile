# What people and CI run. Every target sets up .venv by itself, from the exact versions in constraints.txt; the demo an
# environment of its own, with what the program needs to run and no more.

VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo

# The first Python that is new enough and can make environments (Debian's own can not, without a package more), or else
# the first that is new enough; `make PYTHON=python3.13 test` names another.
CANDIDATES := python3 python3.13 python3.12 python3.11 python
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
COMPLETE := import ensurepip, venv; $(NEW_ENOUGH)
those = $(foreach name,$(CANDIDATES),$(shell $(name) -c '$(1)' >/dev/null 2>&1 && echo $(name)))
PYTHON ?= $(firstword $(call those,$(COMPLETE)) $(call those,$(NEW_ENOUGH)))

# $(call environment,DIRECTORY): a new environment, with what installs the program into it. Without build isolation the
# build backend is one of the exact versions too.
define environment
@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; name one with PYTHON=..." >&2; exit 1; }
@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "make: $(PYTHON) is not Python 3.11 or newer" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "make: $(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
@echo "setting up $(1) with $(PYTHON)"
@$(PYTHON) -m venv $(1)
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables || { \
	echo "make: cannot install; is the package index within reach?" >&2; exit 1; }
endef

# The same program with its hot modules compiled, as the image ships it.
COMPILED := .compiled
SOURCES := $(shell find shadowproxy -type f ! -name '*.pyc')

# The website, and what builds it, in an environment of its own.
SITE := .site
SITE_TO ?= build

# Tests run in several processes, one more than there are processors, as each waits at times.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
SIDE_BY_SIDE := -n $(WORKERS) --dist worksteal

.PHONY: help demo test test-compiled soak soak-ready parties-all chaos check format schema modules site bench dist image sbom clean

help:
	@echo "make demo    see it at work on real flights; KEEP=1 leaves its servers up until Ctrl-C"
	@echo "make test    run the tests"
	@echo "make test-compiled   run them against the compiled program, which it builds; QUICK=1 those that it can make fail"
	@echo "make soak    run the long tests, with real callers, servers and containers, which it installs; THOROUGH=1 with more seeds"
	@echo "make parties-all   run the tests with every real server and caller, which it installs: an hour and 20 GB"
	@echo "make chaos   measure live's latency and the memory under every fault, about 5 minutes"
	@echo "make check   formatting, lint and types"
	@echo "make format  put the formatting right"
	@echo "make modules  write the pages of modules, commands and Python again, after a change of docstrings or options"
	@echo "make site    build the pages as a website into build/site"
	@echo "make schema  write the configuration's schema and the table of variables again, after a change of its keys"
	@echo "make bench   compare it with nginx and Envoy, in five rounds; QUICK=1 for a rough impression from one"
	@echo "make dist    build the wheel and the source archive into dist/"
	@echo "make image   build the image, and print what it is made of; SLIM=python:3.13-slim@sha256:... and FULL=... pin its bases"
	@echo "make sbom    write a bill of materials, in CycloneDX's JSON, into dist/"
	@echo "make clean   remove the files of the other targets"

# 141: whoever read the output has left, as in `make demo | head`.
demo: $(DEMO)/ready
	@$(DEMO)/bin/shadowproxy demo $(if $(KEEP),--keep) || test $$? -eq 141

test: $(VENV)/ready
	@$(BIN)/pytest $(SIDE_BY_SIDE)

# Safe path: the sources in the working directory must not be found before what is installed.
test-compiled: $(COMPILED)/ready
	@PYTHONSAFEPATH=1 $(COMPILED)/bin/python -m pytest $(SIDE_BY_SIDE) -o cache_dir=$(COMPILED)/pytest_cache \
		$(if $(QUICK),--for-compiled)

# What the long tests need.
soak-ready: $(VENV)/ready $(SITE)/ready
	@command -v rsyslogd >/dev/null || { apt-get update -qq && apt-get install -qq --no-install-recommends rsyslog >/dev/null; }
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq --no-install-recommends chromium >/dev/null; }
	@tests/parties/install $(abspath $(BIN)/python)
	@tests/ship/install $(abspath $(BIN)/python)

soak: soak-ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pyarrow
	@$(BIN)/pytest -k "arrow or parquet" tests/test_formats.py tests/test_formats_fuzz.py tests/test_formats_report.py \
		tests/test_labels.py tests/test_export.py
	@tests/soak $(BIN)/pytest

# ONLY names some of them, as in `make parties-all ONLY="litellm mlserver"`: the others are not installed and not tested.
parties-all: $(VENV)/ready
	@tests/parties/install $(abspath $(BIN)/python) $(if $(ONLY),$(ONLY),all)
	@$(BIN)/pytest -m parties_all $(if $(ONLY),--only-parties "$(ONLY)")

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(VENV)/ready
	@$(BIN)/python -m shadowproxy.config.schema docs/reference/configuration.md
	@$(BIN)/python tests/environment_page.py

modules: $(VENV)/ready
	@$(BIN)/python tests/modules.py
	@$(BIN)/python tests/commands_page.py
	@$(BIN)/python tests/python_page.py

# A warning is an error, so that a dead link ends it. SITE_TO names another directory than build.
site: $(SITE)/ready
	@$(SITE)/bin/python website/gather.py $(SITE_TO)/site-source
	@$(SITE)/bin/python -m sphinx -q -W --keep-going -j auto -c website $(SITE_TO)/site-source $(SITE_TO)/site
	@echo "$(SITE_TO)/site/index.html"

chaos: $(VENV)/ready
	@command -v rsyslogd >/dev/null || { apt-get update -qq && apt-get install -qq --no-install-recommends rsyslog >/dev/null; }
	@$(BIN)/pytest -n $(WORKERS) -m "soak and not latency" $(wildcard tests/chaos*.py)
	@$(BIN)/pytest -m "soak and latency" $(wildcard tests/chaos*.py)

# It chooses a Python of its own, as good as the image's, unless one is named.
bench: $(VENV)/ready
	@PYTHON=$(if $(filter command environment,$(origin PYTHON)),$(PYTHON)) BESIDE=$(BESIDE) bench/setup
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(MARKDOWN),--markdown) $(foreach name,$(ONLY),--only $(name))

dist: $(VENV)/ready
	$(BIN)/hatchling build

image: $(VENV)/ready
	@deploy/image/build.sh $(BIN)/python dist $(foreach name,FULL SLIM,$(if $($(name)),--build-arg $(name)=$($(name))))

sbom: $(VENV)/ready
	@deploy/image/sbom.sh $(BIN)/python

clean:
	rm -rf $(VENV) $(DEMO) $(COMPILED) $(SITE) build/site build/site-source .parties .ship .bench bench/results dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

# The stamp is newer than what it was made from, or it is made again. Without compiling: Python does that to what it
# imports, a small part.
$(DEMO)/ready: pyproject.toml constraints.txt
	$(call environment,$(DEMO))
	@$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt \
		--no-build-isolation -e .
	@touch $@

$(VENV)/ready: pyproject.toml constraints.txt
	$(call environment,$(VENV))
	@# An environment of before the distribution had its name of today holds the same files under another.
	@$(BIN)/python -m pip uninstall -qq --yes --disable-pip-version-check shadowproxy
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

$(SITE)/ready: website/requirements.txt constraints.txt $(VENV)/ready
	@echo "setting up $(SITE)"
	@$(BIN)/python -m venv $(SITE)
	@$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r website/requirements.txt
	@touch $@

# An environment with nothing of its own but the compiled program: all else, and the tests, it finds in $(VENV) and here.
$(COMPILED)/ready: $(VENV)/ready hatch_build.py $(SOURCES)
	@echo "compiling the program into $(COMPILED)"
	@rm -rf $(COMPILED)
	@$(BIN)/python -m venv --without-pip $(COMPILED)
	@HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
		--wheel-dir $(COMPILED)/wheel .
	@$(BIN)/python -m pip --quiet --disable-pip-version-check --python $(COMPILED)/bin/python install --no-deps --no-index \
		$(COMPILED)/wheel/*.whl
	@$(BIN)/python -c 'import site; print(*site.getsitepackages(), "$(CURDIR)", sep="\n")' \
		>$$($(COMPILED)/bin/python -c 'import site; print(*site.getsitepackages())')/shared.pth
	@touch $@

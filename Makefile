# One command each, on a machine that has Python >= 3.11, pip and make: every target sets up its own .venv first.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python -m
PINNED := pyproject.toml constraints.txt
# What is installed, by a stamp inside the environment: gone with it, and older than a changed pin.
FOR_DEMO := $(VENV)/.penstock-demo
FOR_TEST := $(VENV)/.penstock-test
FOR_DOCS := $(VENV)/.penstock-docs

# A browser for the tests of the report page. Where it cannot be installed here, those tests fail and say so.
HAS_BROWSER := { command -v chromium || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable; } >/dev/null

FOR_BENCH := $(VENV)/.penstock-bench

.DEFAULT_GOAL := help
.PHONY: help demo test faults check format docs bench clean

help:
	@echo "make demo    render 1,000 lines of text, read them with a real model, print the accuracy and the rate"
	@echo "make test    every test"
	@echo "make faults  break everything that can break, often, and write the table in docs/reliability.md: < 15 minutes"
	@echo "make check   format, lint, types, and the rules of the house"
	@echo "make format  put the format right"
	@echo "make docs    the documentation as a site, in build/site; warnings are errors"
	@echo "make bench   every benchmark with its rivals: about three hours, on a machine that does nothing else"
	@echo "make clean   remove everything these commands made, .venv included"

demo: $(FOR_DEMO)
	$(VENV)/bin/penstock demo

test: $(FOR_TEST)
	$(RUN) pytest

# The long form of tests/faults; `make test` has the short one.
faults: $(FOR_TEST)
	rm -f $(VENV)/faults.jsonl
	PENSTOCK_FAULTS=long PENSTOCK_FAULTS_TABLE=$(VENV)/faults.jsonl $(RUN) pytest tests/faults --timeout=600
	$(VENV)/bin/python tests/faults/table.py $(VENV)/faults.jsonl

check: $(FOR_TEST)
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) pytest tests/test_rules.py tests/test_imports.py

format: $(FOR_TEST)
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

# Not --quiet: it silences warnings, which are then no errors any more.
docs: $(FOR_DOCS)
	$(VENV)/bin/python docs/assemble.py build/docs
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict
	@echo "python3 -m http.server --directory build/site    shows it, with its search; build/site/index.html without"

bench: $(FOR_BENCH)
	for name in overhead autotune folder torch_folder origins several devices session feed accuracy memory kill transport faults; do $(VENV)/bin/python benchmarks/$$name.py || exit 1; done
	$(VENV)/bin/python benchmarks/folder.py --bf16
	$(VENV)/bin/python benchmarks/feed.py --start
	$(VENV)/bin/python benchmarks/origins.py --feed

clean:
	rm -rf $(VENV) build dist demo .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "penstock needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1)." \
			"Say which one to use: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu it comes with: apt install python3-venv" >&2; exit 1; }

$(FOR_DEMO): $(PINNED) | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx]'
	@touch $@

$(FOR_TEST): $(PINNED) | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[onnx,openvino,parquet,evaluate,keras-backends,metrics,tracing,dev,docs]'
	@$(HAS_BROWSER) || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "The tests of the report page need a browser: apt install chromium (or google-chrome)." >&2
	@touch $(FOR_DEMO) $(FOR_DOCS) $@

$(FOR_DOCS): $(PINNED) | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

$(FOR_BENCH): $(PINNED) | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench,dev]'
	@touch $@

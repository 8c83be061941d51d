# make demo: distill on data that needs no download; make test: the tests;
# make benchmark: measure every row of benchmarks/README.md (15 minutes);
# make docs: these pages as HTML, with the API (Python 3.11 or newer);
# make lint: style, imports, format and spelling, without a network.
# All create .venv and install the versions of requirements/constraints.txt
# once; they install again only when setup.py or a requirements file changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python
PIP := $(BIN) -m pip install -c requirements/constraints.txt
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.installed-docs
LINT_INSTALLED := $(VENV)/.installed-lint
LINTED := sdd_mm tools benchmarks tests docs setup.py
# two threads that spin for each other stall where the cores are shared
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

LINK := $(shell readlink $(VENV))
ifneq ($(LINK),)
$(error $(VENV) is a symbolic link to $(LINK), where make would install this \
  checkout over another one: remove the link)
endif

.PHONY: demo test test-long benchmark docs lint install

demo: $(INSTALLED)
	$(BIN) tools/demo.py

# a file stays with one process: some have a port, or fixtures of minutes
test: $(INSTALLED)
	$(BIN) -m pytest -n 2 --dist loadfile

test-long: $(INSTALLED)
	$(BIN) -m pytest --long

benchmark: $(INSTALLED)
	$(BIN) tools/benchmark/speed.py all
	$(BIN) tools/benchmark/speed.py write

docs: $(DOCS_INSTALLED)
	$(BIN) -m sphinx -q -W --keep-going -b html docs/en docs/en/_build
	@echo docs/en/_build/index.html

lint: $(LINT_INSTALLED)
	$(BIN) -m flake8 $(LINTED)
	$(BIN) -m isort --check -q $(LINTED)
	$(BIN) -m yapf -d -r -p $(LINTED)
	$(VENV)/bin/codespell --builtin clear,rare,en-GB_to_en-US -L intervall \
	  $$(git ls-files | grep -vE '\.(png|npz|json|ipynb)$$')

install: $(INSTALLED)

# Where Debian has no python3-venv, the system's pip fills the environment
$(INSTALLED): setup.py $(filter-out %/docs.txt %/lint.txt,$(wildcard requirements/*.txt))
	test -x $(BIN) || $(PYTHON) -m venv $(VENV) || \
	  ($(PYTHON) -m venv --clear --without-pip $(VENV) && \
	   $(PYTHON) -m pip --python $(BIN) install pip)
	$(PIP) -e '.[demo,tests]'
	@# machines without a screen lack the libraries that opencv-python wants
	$(BIN) -c 'import cv2' || ($(BIN) -m pip uninstall -y opencv-python && \
	  $(PIP) opencv-python-headless)
	touch $@

$(DOCS_INSTALLED): $(INSTALLED) requirements/docs.txt
	$(PIP) -q -r requirements/docs.txt
	touch $@

$(LINT_INSTALLED): $(INSTALLED) requirements/lint.txt
	$(PIP) -q -r requirements/lint.txt
	touch $@

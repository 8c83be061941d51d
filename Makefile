# make demo: distil on data that needs no download; make test: the tests;
# make benchmark: measure every row of benchmarks/README.md (15 minutes).
# make docs: these pages as HTML, with the API (Python 3.11 or newer).
# All create .venv and install the versions of requirements/constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# two threads that spin for each other stall where the cores are shared
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-long benchmark docs install

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

docs: $(INSTALLED)
	$(BIN) -m pip install -q -c requirements/constraints.txt -e '.[docs]'
	$(BIN) -m sphinx -q -W --keep-going -b html docs/en docs/en/_build
	@echo docs/en/_build/index.html

install: $(INSTALLED)

# Where Debian has no python3-venv, the system's pip fills the environment
$(INSTALLED): setup.py $(wildcard requirements/*.txt)
	test -x $(BIN) || $(PYTHON) -m venv $(VENV) || \
	  ($(PYTHON) -m venv --clear --without-pip $(VENV) && \
	   $(PYTHON) -m pip --python $(BIN) install pip)
	$(BIN) -m pip install -c requirements/constraints.txt -e '.[demo,tests]'
	@# machines without a screen lack the libraries that opencv-python wants
	$(BIN) -c 'import cv2' || ($(BIN) -m pip uninstall -y opencv-python && \
	  $(BIN) -m pip install -c requirements/constraints.txt opencv-python-headless)
	touch $@

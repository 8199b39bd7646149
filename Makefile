# `make demo` and `make test` do everything on a fresh machine with Python 3.11-3.13, gcc and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --python $(BIN)/python

# Where a torch that sees a GPU is installed already, that one is used; otherwise the pinned set is installed.
USE_INSTALLED_TORCH ?= $(shell $(PYTHON) -c "import torch, torchvision; print(int(torch.cuda.is_available()))" 2>/dev/null || echo 0)
ifeq ($(USE_INSTALLED_TORCH),1)
  VENV_FLAGS := --system-site-packages
  INSTALL := $(BIN)/python -m pip install --quiet
else
  VENV_FLAGS :=
  INSTALL := $(UV) --quiet --constraints constraints.txt
endif

# Compiling what is imported anew in every process would take longer than many a test.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all lint bench docs clean
demo: $(VENV)/installed
	$(BIN)/lightning fit --config configs/quickstart.yaml

# Two processes, each with files of its own. `make test TESTS=tests/human` runs a part.
TESTS ?=
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

test: $(VENV)/installed-dev lint
	$(PYTEST)

test-all: $(VENV)/installed-dev lint
	$(PYTEST) -m ""

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy human metrics synth datamodules lightning_modules callbacks cli benchmarks

# The documentation as a site, in build/site; any warning is an error.
docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.raster
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.render
	$(BIN)/python -m benchmarks.fit
	$(BIN)/python -m benchmarks.loop
	$(BIN)/python -m benchmarks.msm
	$(BIN)/python -m benchmarks.tpe --small

$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/installed: $(VENV)/bin/uv pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) -e '.[dev,pytorch3d]'
	$(INSTALL) --no-deps rtmlib # its own opencv packages would overwrite the headless one
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

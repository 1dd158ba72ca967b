# Two commands carry this project; each does all its set-up on a new machine.
#   make demo          the main job, shown: a good release is found healthy, a bad one is rolled back
#   make demo KEEP=1   the same, and the Prefect UI stays up until Ctrl-C
#   make test          every check and test, on real parts
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format clean system

demo: .venv/ready
	$(BIN)/firstwatch demo $(if $(KEEP),--keep)

test: .venv/ready-dev system
	.ci/test

check: .venv/ready-dev
	.ci/test lint

format: .venv/ready-dev
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

# Debian's Prometheus and Chromium, for the tests that run the real thing.
system:
	.ci/system

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .demo build *.egg-info

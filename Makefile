# make demo   set up and run on the built-in simulator
# make stack  the demo with a real Prometheus, Alertmanager and four weeks of history
# make test   set up and run every check
# make help   the rest

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What pip need not tell a newcomer.
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes

.PHONY: help venv demo stack test check unit bench fuzz soak audit sbom lock pictures clean

help:
	@sed -n 's/^# //p' Makefile
	@echo 'make stack ARGS=--no-history   at once, without a past; ARGS=--help: the rest'
	@echo 'make venv   set up alone'
	@echo 'make check  style, types and imports alone'
	@echo 'make unit   the tests alone; ARGS="-k midnight" chooses'
	@echo 'make pictures   take the README'"'"'s pictures of the page anew'
	@echo 'make bench  measure the exporter against its peers; ARGS=--help: the rest'
	@echo 'make soak   let a simulated week of faults pass, with an oracle; ARGS=--help: the rest'
	@echo 'make fuzz   look for an hour for bytes that break a door; ARGS=--help: the rest'
	@echo 'make audit  ask for known vulnerabilities of all dependencies'
	@echo 'make sbom   write sbom.cdx.json, what the exporter is made of (CycloneDX)'
	@echo 'make lock   pin the newest versions of all dependencies (needs uv)'

$(VENV)/run: requirements.txt
	PYTHON=$(PYTHON) tools/install-parts venv
	$(PYTHON) tools/make_venv.py $(VENV)
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/test: requirements-test.txt $(VENV)/run
	$(PIP) -r requirements-test.txt
	@touch $@

venv: $(VENV)/run

demo: $(VENV)/run
	$(BIN)/python exporter.py --demo

stack: $(VENV)/run
	tools/install-parts stack
	$(BIN)/python -m tools.stack $(ARGS)

check: $(VENV)/test
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > .venv/imports.log || { cat .venv/imports.log; exit 1; }

unit: $(VENV)/test
	tools/install-parts tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test: check unit

bench: $(VENV)/test
	tools/install-parts bench
	$(BIN)/python -m tools.bench $(ARGS)

soak: $(VENV)/test
	$(BIN)/python -m tools.soak $(ARGS)

fuzz: $(VENV)/test
	$(BIN)/python tools/fuzz.py $(ARGS)

AUDIT := .venv-audit

$(AUDIT)/done: requirements-audit.txt
	$(PYTHON) tools/make_venv.py $(AUDIT)
	$(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-audit.txt
	@touch $@

audit: $(AUDIT)/done
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		-r requirements.txt -r requirements-test.txt -r requirements-audit.txt

sbom: $(AUDIT)/done
	$(AUDIT)/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-format JSON --output-file sbom.cdx.json requirements.txt

pictures: $(VENV)/test
	tools/install-parts tests
	PYTHONPATH=tests:. $(BIN)/python tools/pictures.py

lock:
	uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 --no-header \
		-o requirements.txt pyproject.toml
	uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 --no-header \
		-c requirements.txt -o requirements-test.txt pyproject.toml requirements-test.in
	uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 --no-header \
		-o requirements-audit.txt requirements-audit.in

clean:
	rm -rf $(VENV) $(AUDIT)

# A target sets up the Python that it needs. Images need Docker, sbom the image, and lock uv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help venv demo test check docs site fix image image-cpu test-image fuzz bench bench-quick sbom audit coverage mutation lock clean

help: ## print what each target does
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.venv/installed: requirements/install.sh $(wildcard requirements/*.txt)
	requirements/install.sh .venv
	touch $@

venv: .venv/installed ## set up .venv with every locked package

demo: venv ## train on real handwritten digits, serve the model, ask it; no Docker, no account
	python -m examples.demo demo

# Two at a time: many tests wait for processes that they start, and each may hold a gigabyte. A file's
# tests stay together, for the servers and models that they share.
test: venv ## run the tests that need no Docker
	pytest --numprocesses 2 --dist loadfile

check: venv ## lint, types and formatting; changes nothing
	ruff check
	ruff format --check
	mypy
	python -m docs.readme --check
	python -m docs.settings --check
	python -m docs.benchmarks --check
	python -m docs.rules --check
	python -m docs.architecture --check
	python -m docs.imports --check
	python -m docs.permissions --check
	hadolint Dockerfile
	python -m docs.scale --check
	shellcheck build_and_push.sh requirements/*.sh requirements/zig-cc tests/engine/*.sh .ci/run

docs: venv ## write the parts of the documents that the code knows best
	python -m docs.readme
	python -m docs.settings
	python -m docs.benchmarks
	python -m docs.rules
	python -m docs.architecture
	python -m docs.imports
	python -m docs.permissions
	python -m docs.licences
	python -m docs.scale

site: venv ## build the documents as a site with a search, in site/; nothing is fetched from elsewhere
	python -m docs.site site

fix: venv ## repair what lint and formatting can
	ruff check --fix
	ruff format

image: ## build the image as kennel:latest; BASE_IMAGE and PRETRAINED choose what goes in
	./build_and_push.sh --local

image-cpu: ## build kennel-cpu:latest, which serves on a CPU and does nothing else, a tenth of the size
	./build_and_push.sh --local --target cpu

test-image: venv ## build the image with a Docker engine, train and serve in it
	pytest -m container tests

fuzz: venv ## send the server 60,000 broken images and requests
	pytest -s --fuzz-requests 60000 --timeout 3000 tests/serving/test_serving_onslaught.py

bench: venv ## measure against the usual ways, side by side, and print a table of each; peers: python -m benchmarks --peers
	python -m benchmarks

bench-quick: venv ## the same with a few images and seconds each, two at a time: shows that they still run
	python -m benchmarks --quick

sbom: ## print what the image kennel:latest holds, as CycloneDX JSON
	docker run --rm kennel cat /opt/kennel/sbom.cdx.json

# docs/security.md says of each why it stays, and why it does not matter here.
KNOWN_WEAKNESSES = CVE-2025-4565 CVE-2026-0994

audit: venv ## ask PyPI for known weaknesses of every locked package; needs PyPI itself, not a mirror
	pip-audit --disable-pip --require-hashes $(addprefix --ignore-vuln=,$(KNOWN_WEAKNESSES)) \
		$(addprefix -r requirements/,image.txt debugging.txt host.txt)

coverage: venv ## run the tests with branches counted, in processes that they start too
	coverage erase
	coverage run -m pytest --numprocesses 2 --dist loadfile
	coverage combine --quiet
	coverage report

mutation: venv ## change rules and contracts one place at a time, and see whether a test notices
	mutmut run
	mutmut results

lock: ## pin the newest versions that fit together, with their hashes
	requirements/lock.sh

clean: ## remove what the other targets made
	rm -rf .venv demo mutants site .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

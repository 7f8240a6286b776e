# make demo   a real ablation on real data in minutes, its tables and figures
# make test   the tests          make check       lint, format, types, import contracts
# make .venv  the environment    make test-slow   the tests that take more than 20 seconds
#                                make test-slurm  the tests on a real SLURM, which it brings up and takes down
#                                make test-bench  the benchmarks, each once and without a timing
#                                make test-full-size  steps of DiffuSSM-XL and DiT-XL/2: 24 GB of memory, 40 GB of disk

PYTHON ?= $(firstword $(foreach v,3 3.14 3.13 3.12 3.11,$(shell command -v python$(v) >/dev/null 2>&1 && python$(v) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo python$(v))))
BIN := .venv/bin

.PHONY: .venv demo test test-slow test-slurm test-bench test-full-size check bench example docs dictionary schema lock

.venv: .venv/installed

# uv, pinned and hashed in the lock itself, installs the rest several times faster than pip.
.venv/installed: requirements.lock
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.11, 3.12, 3.13 or 3.14 on the PATH" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --quiet --python .venv --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv
	$(BIN)/python ablations/launch.py --grid hourglass_vs_patch
	$(BIN)/python reports/make_figures.py

test: .venv
	$(BIN)/python -m pytest tests -n 2 --dist worksteal -m "not slow"

test-slow: .venv
	$(BIN)/python -m pytest tests -m slow

# Installs SLURM if it is missing, which takes root. The tests that need torch are elsewhere, so is the conftest that loads it.
test-slurm: .venv
	tests/slurm/run $(BIN)/python -m pytest tests/slurm -n 8 --confcutdir tests/slurm

test-bench: .venv
	$(BIN)/python -m pytest bench --benchmark-disable

# On a CPU, with checkpoints, a kill and what memory and writing take; FULL_SIZE="--model DiT-XL/2 --folder DIR" for less.
test-full-size: .venv
	$(BIN)/python -m tests.full_size $(FULL_SIZE)

check: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Five minutes of two cores; SCALE=paper has the paper's shapes, on a GPU if there is one.
SCALE ?= small
bench: .venv
	$(BIN)/python -m pytest bench --benchmark-only --scale $(SCALE)

# The figures and tables that the README shows, as the last launches made them.
example:
	mkdir -p reports/example
	cd reports/out/hourglass_vs_patch/digits && cp results.md fid_over_steps.png metrics_over_steps.png samples.png ../../../example/
	for grid in attention_vs_ssm equal_macs model_scale sampler_steps; do \
		cp reports/out/$$grid/digits/results.md reports/example/$$grid.md; done
	cp reports/out/attention_vs_ssm/digits/fid_over_steps.png reports/example/attention_vs_ssm.png
	cp reports/out/equal_macs/digits/fid_over_steps.png reports/example/equal_macs.png
	cd reports/out/hourglass_vs_patch/mnist && cp results.md ../../../example/mnist.md && \
		cp fid_over_steps.png ../../../example/mnist.png && cp samples.png ../../../example/mnist_samples.png
	cp reports/out/paper/figure_3.png reports/example/
	mkdir -p reports/example/bench
	cd reports/out/bench/small-cpu && cp copies.md copies.png lead.md lead.png lengths.md lengths.png parts.md parts.png \
		roofline.md timing.md ../../../example/bench/

# Costs of all named models: counted, ten minutes and 8 GB, then the page.
docs:
	mkdir -p docs
	$(BIN)/python -m diffussm.cost.audit > docs/cost_audit.csv.part && mv docs/cost_audit.csv.part docs/cost_audit.csv
	$(BIN)/python -m reports.docs.cost

# The pages on fields of records, columns of tables, fields of the config, and metrics.
dictionary:
	$(BIN)/python -m reports.docs

# For editors of grid files.
schema:
	$(BIN)/python -m ablations.grid.json_schema > ablations/grid.schema.json

# Pinned for every platform and Python, with hashes; needs uv.
lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --group dev pyproject.toml -o requirements.lock

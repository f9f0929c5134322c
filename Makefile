# The two commands of the README. Each does all its set-up itself; Python 3.11 or later is all it takes.
PYTHON ?= python3
BUNDLES := src/fundoscope/shipped
DATA ?= $(or $(FUNDOSCOPE_DATA),../shared/data)

.PHONY: demo test weights-rop nicked-patches weights-nicking clean

demo: .venv-demo/ready
	.venv-demo/bin/fundoscope simulate infants 14 --seed 1 --workers 2 --out demo-report/eyes
	.venv-demo/bin/fundoscope rop screen demo-report/eyes/cohort.csv --out demo-report/screening
	.venv-demo/bin/fundoscope simulate adults 3 --seed 4 --workers 2 --out demo-report/adults
	.venv-demo/bin/fundoscope nicking grade demo-report/adults/images --out demo-report/nicking
	cp docs/start/demo.html demo-report/index.html
	@echo "Open demo-report/index.html: simulated eyes, real networks, both graders. Research use only."

test: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/ty check --python .venv
	.venv/bin/lint-imports
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2

# The shipped ROP grader, from the photographs in $(DATA); about two hours on two cores, and it goes on where it was cut off.
weights-rop: .venv/ready
	.venv/bin/python benchmarks/weights_rop.py --data $(DATA) --out runs/weights-rop

# Patches with known nicking, drawn from the photographs in $(DATA): a quarter of an hour.
nicked-patches: .venv/ready
	.venv/bin/python benchmarks/nicked_patches.py --data $(DATA) --out runs/nicked

# The shipped grader of crossings and nicking; about three hours on two cores, and it goes on where it was cut off.
weights-nicking: nicked-patches
	.venv/bin/python benchmarks/weights_nicking.py --data $(DATA) --patches runs/nicked --out runs/weights-nicking

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[train,dev]'
	touch $@

.venv-demo/ready: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet --editable .
	touch $@

clean:
	rm -rf .venv .venv-demo demo-report

# The README's commands are `make demo`, `make test` and `make serve`. Each does all its set-up itself; Python 3.11 or later is all it takes.
PYTHON ?= python3
DATA ?= $(or $(FUNDOSCOPE_DATA),../shared/data)
BIN := .venv/bin

.PHONY: help demo serve test test-services lint languages docs notebook release weights-rop weights-nano nano-curve nicked-patches vessel-maps weights-nicking infant-vessels weights-infant-vessels clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-16s %s\n", $$1, $$2 }'

demo: .venv-demo/ready  ## simulated infants and adults, both graders, one page; light install
	rm -rf demo-report
	.venv-demo/bin/fundoscope simulate infants 14 --seed 1 --workers 2 --out demo-report/eyes
	.venv-demo/bin/fundoscope rop screen demo-report/eyes/cohort.csv --out demo-report/screening
	.venv-demo/bin/fundoscope simulate adults 3 --seed 4 --workers 2 --out demo-report/adults
	.venv-demo/bin/fundoscope nicking grade demo-report/adults/images --out demo-report/nicking
	cp docs/start/demo.html demo-report/index.html
	@echo "The warning is right: simulated eyes look unlike the photographs that the network learnt from."
	@echo "Open demo-report/index.html: simulated eyes, real networks, both graders. Research use only."

serve: .venv-serve/ready  ## the reading room with simulated exams in it, on this computer; light install
	.venv-serve/bin/fundoscope serve --demo

lint: .venv/ready  ## what a commit must pass before it is tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check --python .venv
	$(BIN)/lint-imports

test: lint  ## everything that needs no service
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-services: .venv/ready  ## tests that need a browser, PostgreSQL or a PACS; installs what is missing by apt-get
	OMP_NUM_THREADS=1 $(BIN)/python tools/services.py

languages: .venv/ready  ## gather the texts that people read into the catalogues; says what waits to be translated
	$(BIN)/python tools/languages.py

docs: .venv/ready  ## the documentation as a site in site/, every link checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir site
	@echo "Open site/index.html."

notebook: .venv/ready  ## run the notebook from a folder of photographs to figures and a page
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not services' tests/test_notebook.py

release: lint  ## wheel and sdist in dist/, checked; VERSION=1.2.3 must stand in CHANGELOG.md and pyproject.toml
	$(BIN)/python tools/release.py $(VERSION)

# The ROP grader from both cameras in $(DATA); many hours on two cores (docs/explanation/rop.md), and it goes on where it was cut
# off. Its bundle stays in runs/weights-rop until `python benchmarks/weights_rop.py --install --out runs/weights-rop`.
weights-rop: .venv/ready  ## make the ROP bundle that is to ship
	$(BIN)/python benchmarks/weights_rop.py --data $(DATA) --out runs/weights-rop

# The small ROP grader, taught by the one that ships as `rop`: an hour of one core, and it goes on where it was cut off. Its bundle stays
# in runs/weights-nano until `python benchmarks/weights_rop.py --bundle nano --install --out runs/weights-nano`.
weights-nano: .venv/ready  ## make the small ROP bundle
	$(BIN)/python benchmarks/weights_rop.py --bundle nano --data $(DATA) --out runs/weights-nano

# Size, speed and AUC of that grader on both cameras, at four sizes of its input: an hour and a half of one core.
nano-curve: .venv/ready  ## measure the small ROP grader at several sizes
	$(BIN)/python benchmarks/nano_curve.py --data $(DATA) --out runs/nano/curve

# Patches with known nicking, drawn from the photographs in $(DATA): a quarter of an hour.
nicked-patches: .venv/ready  ## make the patches that graders of nicking learn from
	$(BIN)/python -m fundoscope.nicking.grade_study.nicked_patches --data $(DATA) --out runs/nicked

# Networks of vessel maps, one of all cameras and one without each group of them: an hour and a half of one core each, and they go on
# where they were cut off. Several of these commands may run at once.
MAP_TRAINING := $(BIN)/python -m fundoscope.nicking.crossing_study.vessel_maps --data runs/maps/photographs.zip runs/maps/simulated.zip
vessel-maps: .venv/ready  ## train the networks of vessel maps
	mkdir -p runs/maps
	test -e runs/maps/photographs.zip || $(BIN)/python -m fundoscope.nicking.crossing_study.map_photographs --data $(DATA) --out runs/maps/photographs.zip
	test -e runs/maps/simulated.zip || $(BIN)/python -m fundoscope.nicking.crossing_study.map_photographs --simulate --workers 2 --out runs/maps/simulated.zip
	$(MAP_TRAINING) --out runs/maps/all
	$(MAP_TRAINING) --without drive --out runs/maps/without_drive
	$(MAP_TRAINING) --without hrf --out runs/maps/without_hrf
	$(MAP_TRAINING) --without les_av --out runs/maps/without_les_av
	$(MAP_TRAINING) --without iostar --out runs/maps/without_iostar
	$(MAP_TRAINING) --without stare chase --out runs/maps/without_stare_chase

# The shipped grader of crossings and nicking; some ten hours on two cores, and it goes on where it was cut off.
weights-nicking: nicked-patches vessel-maps  ## make the shipped nicking bundle
	$(BIN)/python -m fundoscope.nicking.shipped --data $(DATA) --maps runs/maps --patches runs/nicked --out runs/weights-nicking --into src/fundoscope/shipped/nicking
	$(BIN)/python benchmarks/crossing_maps.py --data $(DATA)

# The network of infants' vessels and discs: forty minutes of one core, and it goes on where it was cut off; runs/infant_vessels/progress.txt
# grows by a line an epoch. Then the network as it ships, and the vascular index among normal photographs: ten minutes.
infant-vessels: .venv/ready  ## train the network of infants' vessels
	$(BIN)/python -m fundoscope.rop.vessel_training.train --data $(DATA) --out runs/infant_vessels

weights-infant-vessels: infant-vessels  ## make the vascular index that ships
	$(BIN)/python -m fundoscope.rop.vessel_training.ship --data $(DATA) --training runs/infant_vessels --out runs/infant_index
	$(BIN)/python benchmarks/vascular_index.py --data $(DATA)

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[train,serve,dicom,dev]'
	touch $@

.venv-demo/ready: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet --editable .
	touch $@

.venv-serve/ready: pyproject.toml
	$(PYTHON) -m venv .venv-serve
	.venv-serve/bin/python -m pip install --quiet --editable '.[serve]'
	touch $@

clean:  ## remove environments and what demo and docs made
	rm -rf .venv .venv-demo .venv-serve demo-report demo-room site dist

# Two commands on a fresh machine: `make demo` and `make test`. Both need nothing but Python, make and the package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# NVIDIA's own parser and builder of engines, which need no GPU: 155 MB, downloaded once. Without them some tests skip.
TENSORRT := .tensorrt
# Each file of tests runs in one process, so that it makes its models once.
PYTEST = PYTHONPATH=$(CURDIR)/$(TENSORRT)/site LD_LIBRARY_PATH=$(CURDIR)/$(TENSORRT)/lib $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check results pictures clean
.DEFAULT_GOAL := demo

# The CPU profile and the main job: follow the face of the demo camera, write a video, measure.
demo: $(VENV)/.demo
	mkdir -p demo
	$(BIN)/mien webcam demo --no-show --max-frames 150 --output demo/overlay.mp4 --stats demo/stats.json
	$(BIN)/mien bench --json demo/bench.json
	@echo "look at demo/overlay.mp4"

# Everything that a test needs, and all tests.
test: $(VENV)/.test
	@test -d $(TENSORRT) || $(BIN)/python tests/fakes/set_up_tensorrt.py $(TENSORRT) || echo 'the tests marked trt are skipped'
	$(PYTEST)

$(TENSORRT): $(VENV)/bin/python
	$(BIN)/python tests/fakes/set_up_tensorrt.py $@

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .lint && ln -sfn .. .lint/mien
	$(BIN)/mypy -p mien
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(PYTEST)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[cpu,demo]'
	touch $@

# torch and torchvision are named together with a floor: alone, an older torch may be picked that breaks torchvision.
$(VENV)/.test: pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet 'torch>=2.14' 'torchvision>=0.29'
	$(BIN)/python -m pip install --quiet -e '.[cpu,demo,train,serve,ray,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(TENSORRT) .lint demo build dist .mypy_cache .ruff_cache .pytest_cache

# The figures of the README, on this machine. DATA holds landmarks68/, faces/ and age_gender/ in the formats of docs/train.md.
results: $(VENV)/.test
	mkdir -p docs/results
	$(BIN)/mien evaluate landmarks --data $(DATA)/landmarks68 --held-out --threads 1 --json > docs/results/landmarks.json
	$(BIN)/mien evaluate landmarks --data $(DATA)/landmarks68 --held-out --detect --threads 1 --json > docs/results/landmarks-detected.json
	$(BIN)/mien evaluate detector --data $(DATA)/faces --held-out --threads 1 --json > docs/results/detector.json
	$(BIN)/mien evaluate age-gender --data $(DATA)/age_gender --held-out --threads 1 --json > docs/results/age-gender.json
	$(BIN)/mien evaluate age-gender --data $(DATA)/age_gender --held-out --detect --threads 1 --json > docs/results/age-gender-detected.json
	$(BIN)/mien evaluate landmarks --data $(DATA)/landmarks68 --held-out --precision int8 --threads 1 --json > docs/results/landmarks-int8.json
	$(BIN)/mien evaluate detector --data $(DATA)/faces --held-out --precision int8 --threads 1 --json > docs/results/detector-int8.json
	$(BIN)/mien evaluate age-gender --data $(DATA)/age_gender --held-out --precision int8 --threads 1 --json > docs/results/age-gender-int8.json
	$(BIN)/mien bench --reference-model --rounds 40 --data $(DATA)/landmarks68 --data $(DATA)/faces --data $(DATA)/age_gender --held-out \
		--json docs/results/bench.json > docs/results/bench.md
	$(BIN)/python -m mien.bench.studies.readme_table

# The README's pictures: the demo as a film, the live page and a bench report as Chromium shows them.
pictures: $(VENV)/.test
	$(BIN)/python -m pip install --quiet playwright
	$(BIN)/python -m mien.bench.studies.readme_pictures

# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# A machine with Python 3.10-3.14 and a C++ compiler is enough; see tools/setup_bare_machine.py.
PYTHON ?= python3
SETUP := $(PYTHON) tools/setup_bare_machine.py
RUN := $(SETUP) run --
PIP := python -m pip install --quiet --disable-pip-version-check --no-input

export NEWEST  # any value: the newest numpy, OpenCV, ... (requirements-newest.txt) in .venv-newest

.PHONY: help setup tests-setup view cuda demo test docs lint types format clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup:  ## make .venv and .overlay: ROS 2 from wheels, all pinned packages, this package built
	@$(SETUP) install

tests-setup:
	@$(SETUP) install --tests

cuda: setup  ## also torch, which runs the networks on a GPU (device:=cuda)
	@$(RUN) $(PIP) -r requirements-torch.txt

view: setup  ## also the rerun SDK, for make demo VIEW=1
	@$(RUN) $(PIP) --no-deps -r requirements-view.txt

demo: setup $(if $(VIEW),view)  ## camera, node and checker; SOURCE=webcam:0 for another camera, VIEW=1 to see it in 3-D, DEPTH=1 with a depth camera
	@$(RUN) python tools/demo.py $(if $(VIEW),--view) $(if $(DEPTH),--depth) \
		$(if $(SOURCE),--source '$(SOURCE)') \
		$(if $(CALIBRATION),--calibration '$(CALIBRATION)') $(if $(FOV_DEG),--fov-deg $(FOV_DEG)) \
		$(if $(RATE),--rate $(RATE))

test: tests-setup  ## all tests; ARGS='-k camera -x' goes to pytest, NEWEST=1 takes the newest packages
	@$(RUN) python -m pytest $(ARGS)

docs: setup  ## write what is made from the code: docs/ros_api.md, config/pose.yaml; CHECK=1 only compares
	@$(RUN) python tools/make_reference.py $(if $(CHECK),--check)

lint: tests-setup  ## ruff: rules and format
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

types: tests-setup  ## mypy
	@$(RUN) mypy

format: tests-setup  ## let ruff rewrite the sources
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

clean:  ## remove all that make made
	rm -rf .venv .overlay .venv-newest .overlay-newest build face_pose_ros/_core.*.so demo_output .mypy_cache .pytest_cache .ruff_cache .hypothesis

# What can be made here: `make` alone prints this list. Everything needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
HAVE_PYTHON = command -v $(PYTHON) >/dev/null || \
	{ echo "There is no $(PYTHON) here: install Python 3.11 or newer, or name one: make up PYTHON=python3.13" >&2; exit 1; }
.DEFAULT_GOAL := help
.PHONY: help install stack up down test fuzz lint bench contracts messages stack-test faults faults-controls \
	browser

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## build .venv from the lock file, and nothing else
	@$(HAVE_PYTHON)
	@$(PYTHON) -I -S deploy/install.py

stack:
	@$(HAVE_PYTHON)
	@$(PYTHON) -I -S deploy/install.py stack

up: stack ## start everything on this machine and print where to go; Ctrl-C stops it all
	@.venv/bin/kursnett up

down: stack ## stop everything that `make up` started
	@.venv/bin/kursnett down

test: install ## run all tests but the slow ones, on real servers
	@.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		-m "not slow and not faults and not stack and not browser"

browser: install ## open every page in a real Chromium: by keyboard, on a phone, in three languages, with axe
	@.venv/bin/python -m pytest -m browser tests/browser

fuzz: install ## ask what nobody thought of, 90 s of each service, and take steps in any order for ten minutes
	@.venv/bin/python -m pytest -m slow tests/integration/test_fuzz.py tests/integration/test_seats_stateful.py

lint: install ## check style, types, layers and migrations
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/squawk $$(git ls-files '*/migrations/*.sql')

bench: install ## measure delivery, seats, search, pages, notices, and partners beside a noisy one; asserts nothing
	@.venv/bin/python -m tests.bench.delivery
	@.venv/bin/python -m tests.bench.seats
	@.venv/bin/python -m tests.bench.web
	@.venv/bin/python -m tests.bench.search
	@.venv/bin/python -m tests.bench.pages
	@.venv/bin/python -m tests.bench.notices
	@.venv/bin/python -m tests.bench.whole
	@.venv/bin/python -m tests.bench.isolation

contracts: install ## write schemas, tables and HTTP documents anew from the classes and the services' routes
	@.venv/bin/python -m contracts
	@.venv/bin/python -m deploy.openapi

messages: install ## write every mail in every language as a page to look at, and print where
	@.venv/bin/python -m services.notifier messages

stack-test: install ## bring the containers up, send one course through them, take them down (Docker Engine)
	@.venv/bin/python -m deploy.compose.stacktest

PROFILE ?= smoke
SEED ?= 1

faults: install ## strain a stack of its own and judge it: PROFILE=smoke|standard|thousand SEED=1
	@.venv/bin/python -m tests.faults --profile $(PROFILE) --seed $(SEED)

faults-controls: install ## take out one guard after the other and show that its invariant goes red
	@.venv/bin/python -m tests.faults.controls --seed $(SEED)

# amzmp: build, install, test and show.
#
#   make                 the library and the install script, into $(BUILD)
#   make install         into the PostgreSQL that PG_CONFIG names (DESTDIR is honoured)
#   make demo            from a bare machine to a running shop; make demo-stop ends it
#   make test            every test, in throwaway clusters of its own
#   make conformance     Amazon's own client judges the simulator and what amzmp sends (needs node and npm)
#   make fuzz            random bytes for whatever reads bytes from outside, SECONDS=60 a target (needs clang)
#   make format          rewrite C and SQL in the one format; make check-format only looks
#   make bench           the benchmarks, in order
#
# Everything made here lands in $(BUILD); nothing is written beside the sources. A new src/*.c or a new name
# in sql/PARTS is picked up without an edit here.

EXTENSION = amzmp
BUILD ?= build
PG_CONFIG ?= pg_config

# The one place that knows the version is the control file. (VERSION itself is PostgreSQL's, once PGXS is read.)
AMZMP_VERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(EXTENSION).control)

SOURCES := $(sort $(wildcard src/*.c))
OBJECTS := $(patsubst src/%.c,$(BUILD)/obj/%.o,$(SOURCES))
LIBRARY := $(BUILD)/$(EXTENSION).so
PARTS := $(addprefix sql/,$(shell sed 's/\#.*//' sql/PARTS))
INSTALL_SQL := $(BUILD)/$(EXTENSION)--$(AMZMP_VERSION).sql
UPDATE_SQL := $(sort $(wildcard sql/update/$(EXTENSION)--*.sql))

# These need no PostgreSQL on the machine: the set-up brings it first, and PGXS is read after that.
BARE := setup demo demo-stop test test-check test-simulator test-regress test-pgtap test-crash bench conformance fuzz format check-format help
ifneq ($(filter-out $(BARE),$(or $(MAKECMDGOALS),all)),)

# MODULES rather than MODULE_big: it lets the library keep a path, so that two builds of one tree cannot meet.
MODULES = $(LIBRARY:.so=)
DATA = $(UPDATE_SQL)
DATA_built = $(INSTALL_SQL)
EXTRA_CLEAN = $(BUILD)/obj $(LIBRARY)
PG_CPPFLAGS = -Iinclude -DAMZMP_VERSION='"$(AMZMP_VERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter
ifeq ($(AMZMP_WERROR),1)
PG_CFLAGS += -Werror
endif
# Bitcode would only serve inlining by the JIT, and nothing here is called often enough to be inlined.
override with_llvm = no
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error $(PG_CONFIG) is missing: "make setup" installs what is needed on Debian 12, doc/install.md says what else)
endif
include $(PGXS)

# -MMD because PGXS on Debian tracks no headers.
$(BUILD)/obj/%.o: src/%.c Makefile $(EXTENSION).control
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CFLAGS_SL) $(CPPFLAGS) -MMD -MP -c -o $@ $<

$(LIBRARY): $(OBJECTS) src/exports.map
	$(CC) $(CFLAGS) -shared -o $@ $(OBJECTS) $(LDFLAGS) $(LDFLAGS_SL) -Wl,--version-script=src/exports.map \
		-lcurl -lssl -lcrypto -ljansson -lz

-include $(OBJECTS:.o=.d)

# A library of that name in $(pkglibdir) is removed by its bare name, which the MODULES rule of PGXS does not know.
uninstall: uninstall-library
.PHONY: uninstall-library
uninstall-library:
	rm -f '$(DESTDIR)$(pkglibdir)/$(EXTENSION)$(DLSUFFIX)'

# Each part ends in a newline, or the last word of one would run into the first of the next.
$(INSTALL_SQL): sql/PARTS $(PARTS) $(EXTENSION).control Makefile
	@mkdir -p $(@D)
	{ printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit'; \
	  for part in $(PARTS); do echo; cat "$$part" || exit 1; done; } > $@.new
	mv $@.new $@

endif

.DEFAULT_GOAL := all

.PHONY: setup demo demo-stop test test-check test-simulator test-regress test-pgtap test-crash bench conformance fuzz format check-format

setup:
	@script/setup.sh

demo: setup
	@test/demo/start.sh

demo-stop:
	@test/demo/stop.sh

# T names single files: make test-crash T=test/crash/orders.sh
test: setup
	@test/run.sh check simulator regress pgtap crash

test-check test-simulator test-regress test-pgtap test-crash: setup
	@test/run.sh $(@:test-%=%) $(T)

bench:
	@script/setup.sh bench
	@test/run.sh bench $(T)

conformance:
	@script/setup.sh node
	@test/conformance/run.sh

SECONDS ?= 60
fuzz:
	@script/setup.sh clang
	@$(MAKE) -C test/fuzz --no-print-directory -s run BUILD='$(abspath $(BUILD))/fuzz' SECONDS=$(SECONDS)

format check-format: setup
	@script/format.sh $@

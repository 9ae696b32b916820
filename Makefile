# The commands a newcomer needs. Each installs what is missing first (Debian packages, see tools/setup.sh).
.PHONY: build demo test test-cuda test-gfx950 asan tsan fuzz lint format clean setup

JOBS ?= $(shell nproc)

# The program, build/mxmla.
build: setup
	cmake --preset cpu
	cmake --build --preset cpu --parallel $(JOBS) --target mxmla

# Text from the embedded model.
demo: build
	@echo
	./build/mxmla run tiny-gsm --stats --prompt "Maya has 24 stickers. She buys 3 packs with 15 stickers each and gives 18 stickers to her brother. How many stickers does Maya have now?"

test: build
	cmake --build --preset cpu --parallel $(JOBS)
	ctest --preset cpu --parallel $(JOBS)

# Compiles the CUDA kernels where nvcc is, and runs their tests where a Hopper GPU is; elsewhere they are skipped by name.
test-cuda: export PATH := $(PATH):/usr/local/cuda/bin
test-cuda: setup
	@if command -v nvcc >/dev/null; then \
	  cmake --preset cuda && \
	  cmake --build --preset cuda --parallel $(JOBS) --target mxmla mxmla_cuda_tests && \
	  ctest --test-dir build-cuda -R 'Cuda|/cuda' --output-on-failure; \
	else echo "test-cuda: no nvcc; the CUDA kernels are not compiled"; fi

# Compiles the kernels for gfx950 with clang-22 and runs their machine code on the emulator.
test-gfx950: setup
	@MXMLA_SETUP=gfx950 tools/setup.sh
	cmake --preset gfx950
	cmake --build --preset gfx950 --parallel $(JOBS) --target mxmla_gfx950_tests
	ctest --test-dir build-gfx950 -R gfx950 --output-on-failure --parallel $(JOBS)

# The same tests under AddressSanitizer and UndefinedBehaviorSanitizer.
asan: setup
	cmake --preset asan
	cmake --build --preset asan --parallel $(JOBS)
	ctest --preset asan --parallel $(JOBS)

# The tests of what runs on several threads, under ThreadSanitizer.
tsan: setup
	cmake --preset tsan
	cmake --build --preset tsan --parallel $(JOBS)
	ctest --preset tsan --parallel $(JOBS)

# One minute of each fuzz target over the kept corpus.
fuzz:
	@MXMLA_SETUP=fuzz tools/setup.sh
	cmake --preset fuzz
	cmake --build --preset fuzz --parallel $(JOBS)
	tools/fuzz.sh build-fuzz 60

# clang-format and clang-tidy, warnings as errors.
lint: build
	@MXMLA_SETUP=lint tools/setup.sh
	tools/lint.sh

format:
	git ls-files '*.h' '*.cpp' | xargs clang-format -i

setup:
	@tools/setup.sh

clean:
	rm -rf build build-*

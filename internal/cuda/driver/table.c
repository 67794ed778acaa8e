//go:build cuda

#define _GNU_SOURCE
#include "table.h"

#include <dlfcn.h>

#include "calls.h"
#include "symbols.h"

/* The three answers of a function that is not there, each with its own meaning. */
static int before_init(void) { return 3; }   /* CUDA_ERROR_NOT_INITIALIZED */
static int no_library(void) { return 34; }   /* CUDA_ERROR_STUB_LIBRARY */
static int not_in_driver(void) { return 801; } /* CUDA_ERROR_NOT_SUPPORTED */
static int accept(unsigned flags) { return (void)flags, 0; }

static const char *const names[AGR_CU_COUNT] = {
#define AGR_CU(i, name) [i] = #name,
#include "symbols.h"
#undef AGR_CU
};

__attribute__((visibility("hidden"))) void *agr_cu_table[AGR_CU_COUNT] = {
#define AGR_CU(i, name) [i] = __builtin_strcmp(#name, "cuInit") ? (void *)before_init : (void *)accept,
#include "symbols.h"
#undef AGR_CU
};

int agr_cu_bind(void *library) {
	int found = 0;
	for (int i = 0; i < AGR_CU_COUNT; i++) {
		void *f = dlsym(library, names[i]);
		agr_cu_table[i] = f ? f : (void *)not_in_driver;
		found += f != 0;
	}
	return found;
}

void agr_cu_absent(void) {
	for (int i = 0; i < AGR_CU_COUNT; i++) agr_cu_table[i] = (void *)no_library;
}

const char *agr_cu_name(int i) { return i < AGR_CU_COUNT ? names[i] : 0; }

/* The table that the trampolines jump through. */
#pragma once

/* agr_cu_bind fills the table from the loaded library. Names that the library lacks
 * fail with CUDA_ERROR_NOT_SUPPORTED. It returns how many were found. */
int agr_cu_bind(void *library);

/* agr_cu_absent makes all further calls fail with CUDA_ERROR_STUB_LIBRARY: there is
 * no library. */
void agr_cu_absent(void);

/* agr_cu_name is the name of slot i, or null past the last. */
const char *agr_cu_name(int i);

//go:build cuda

/* One jump for each function of symbols.h, through its slot of agr_cu_table: what
 * is linked against -lcuda lands here, and the arguments stay where the caller put
 * them (registers and stack untouched). Hidden, so that NVIDIA's own libraries,
 * loaded into this process, never bind to them. */
	.text
#define AGR_CU(i, name) \
	.globl name; .hidden name; .type name, @function; .p2align 4; \
name: \
	endbr64; \
	jmp *(agr_cu_table + 8*i)(%rip); \
	.size name, . - name;
#include "symbols.h"

	.section .note.GNU-stack,"",@progbits

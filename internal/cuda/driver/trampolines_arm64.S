//go:build cuda

/* As trampolines_amd64.S: one jump for each function of symbols.h. x16 is the register
 * that the calling convention leaves to such code between a call and what it reaches. */
	.text
#define AGR_CU(i, name) \
	.globl name; .hidden name; .type name, %function; .p2align 4; \
name: \
	hint #34; /* bti c */ \
	adrp x16, agr_cu_table + 8*i; \
	ldr x16, [x16, #:lo12:agr_cu_table + 8*i]; \
	br x16; \
	.size name, . - name;
#include "symbols.h"

	.section .note.GNU-stack,"",%progbits

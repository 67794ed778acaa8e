// How one operating-system thread changes from stack to stack.
#pragma once
#include <string.h>

// agr_switch saves the callee-saved registers on the stack, stores its pointer to
// *from and continues on stack to.
extern "C" void agr_switch(void **from, void *to);

#if defined(__x86_64__)

asm(R"(
	.text
	.globl agr_switch
	.hidden agr_switch
	.type agr_switch, @function
agr_switch:
	endbr64
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, (%rdi)
	mov %rsi, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret
	.size agr_switch, . - agr_switch
)");

// agr_begin makes the stack that ends at top one whose first switch calls f.
inline void *agr_begin(void *top, void (*f)()) {
  void **sp = (void **)top;
  *--sp = nullptr;  // where f's caller would be: aligns its frame
  *--sp = (void *)f;
  sp -= 6;
  memset(sp, 0, 6 * sizeof *sp);
  return sp;
}

#elif defined(__aarch64__)

asm(R"(
	.text
	.globl agr_switch
	.hidden agr_switch
	.type agr_switch, %function
agr_switch:
	hint #34 // bti c
	stp x29, x30, [sp, #-160]!
	stp x19, x20, [sp, #16]
	stp x21, x22, [sp, #32]
	stp x23, x24, [sp, #48]
	stp x25, x26, [sp, #64]
	stp x27, x28, [sp, #80]
	stp d8, d9, [sp, #96]
	stp d10, d11, [sp, #112]
	stp d12, d13, [sp, #128]
	stp d14, d15, [sp, #144]
	mov x2, sp
	str x2, [x0]
	mov sp, x1
	ldp x19, x20, [sp, #16]
	ldp x21, x22, [sp, #32]
	ldp x23, x24, [sp, #48]
	ldp x25, x26, [sp, #64]
	ldp x27, x28, [sp, #80]
	ldp d8, d9, [sp, #96]
	ldp d10, d11, [sp, #112]
	ldp d12, d13, [sp, #128]
	ldp d14, d15, [sp, #144]
	ldp x29, x30, [sp], #160
	ret
	.size agr_switch, . - agr_switch
)");

// agr_begin makes the stack that ends at top one whose first switch calls f.
inline void *agr_begin(void *top, void (*f)()) {
  void **sp = (void **)top - 20;
  memset(sp, 0, 20 * sizeof *sp);
  sp[1] = (void *)f;  // x30
  return sp;
}

#else
#error "the doubles run on x86-64 and AArch64"
#endif

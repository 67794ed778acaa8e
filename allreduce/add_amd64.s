#include "textflag.h"

// func addSSE(dst, a, b *float32, n int)
//
// dst[i] = a[i] + b[i] for i in [0, n), n a positive multiple of 16. SSE is
// part of every amd64, and four lanes already outrun the memory.
TEXT ·addSSE(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	XORQ AX, AX

loop:
	MOVUPS (SI)(AX*4), X0
	MOVUPS 16(SI)(AX*4), X1
	MOVUPS 32(SI)(AX*4), X2
	MOVUPS 48(SI)(AX*4), X3
	MOVUPS (DX)(AX*4), X4
	MOVUPS 16(DX)(AX*4), X5
	MOVUPS 32(DX)(AX*4), X6
	MOVUPS 48(DX)(AX*4), X7
	ADDPS  X4, X0
	ADDPS  X5, X1
	ADDPS  X6, X2
	ADDPS  X7, X3
	MOVUPS X0, (DI)(AX*4)
	MOVUPS X1, 16(DI)(AX*4)
	MOVUPS X2, 32(DI)(AX*4)
	MOVUPS X3, 48(DI)(AX*4)
	ADDQ   $16, AX
	CMPQ   AX, CX
	JLT    loop
	RET

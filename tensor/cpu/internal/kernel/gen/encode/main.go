// Command encode rewrites the instructions of AVX512-BF16 in a generated file as
// bytes: Go's assembler does not know them.
//
//	go run ./encode FILE
package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// Each is EVEX.512.pp.0F38.W0 opcode /r on three registers (Intel's Software
// Developer's Manual, volume 2: VCVTNE2PS2BF16, VDPBF16PS; section 2.7 on EVEX).
var instructions = map[string]struct{ pp, opcode byte }{
	"VDPBF16PS":      {2, 0x52}, // F3
	"VCVTNE2PS2BF16": {3, 0x72}, // F2
}

var line = regexp.MustCompile(`(?m)^\t(VDPBF16PS|VCVTNE2PS2BF16) +Z(\d+), Z(\d+), Z(\d+)$`)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: encode FILE")
		os.Exit(2)
	}
	if err := rewrite(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "encode:", err)
		os.Exit(1)
	}
}

func rewrite(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, line.ReplaceAllFunc(text, encode), 0o644)
}

// encode is one line in bytes. The operands are in Go's order: the destination,
// ModRM.reg, last; EVEX.vvvv in the middle; ModRM.rm first.
func encode(text []byte) []byte {
	m := line.FindSubmatch(text)
	var r [3]byte
	for i := range r {
		n, err := strconv.ParseUint(string(m[i+2]), 10, 5)
		if err != nil {
			panic(err) // the expression matches digits, and avo knows 32 registers
		}
		r[i] = byte(n)
	}
	rm, vvvv, dst, ins := r[0], r[1], r[2], instructions[string(m[1])]
	not := func(v byte, bit int) byte { return ^v >> bit & 1 }
	p0 := not(dst, 3)<<7 | not(rm, 4)<<6 | not(rm, 3)<<5 | not(dst, 4)<<4 | 2 // R X B R' mm
	p1 := ^vvvv&15<<3 | 4 | ins.pp                                            // W vvvv 1 pp
	p2 := byte(2<<5) | not(vvvv, 4)<<3                                        // z L'L b V' aaa
	modrm := 3<<6 | dst&7<<3 | rm&7
	return fmt.Appendf(nil, "\tLONG $0x%02x%02x%02x62; WORD $0x%02x%02x // %s", p2, p1, p0, modrm, ins.opcode, text[1:])
}

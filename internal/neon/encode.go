package neon

import (
	"fmt"
	"strings"
)

// op is a vector instruction on two or three registers, the destination in bits 0-4, the
// sources in bits 5-9 and 16-20 (Arm Architecture Reference Manual, C7.2).
type op struct {
	code    uint32
	sources int
	adds    bool   // reads its destination too
	shape   string // of each operand, where they differ
}

// ops are the instructions of Do, by mnemonic and arrangement.
var ops = map[string]op{
	"fadd.4s": {code: 0x4E20D400, sources: 2}, "fsub.4s": {code: 0x4EA0D400, sources: 2},
	"fmul.4s": {code: 0x6E20DC00, sources: 2}, "fdiv.4s": {code: 0x6E20FC00, sources: 2},
	"fmax.4s": {code: 0x4E20F400, sources: 2}, "fmin.4s": {code: 0x4EA0F400, sources: 2},
	"fmla.4s": {code: 0x4E20CC00, sources: 2, adds: true}, "fmls.4s": {code: 0x4EA0CC00, sources: 2, adds: true},
	"fcmeq.4s": {code: 0x4E20E400, sources: 2},
	"fneg.4s":  {code: 0x6EA0F800, sources: 1}, "fabs.4s": {code: 0x4EA0F800, sources: 1}, "fsqrt.4s": {code: 0x6EA1F800, sources: 1},

	"fadd.2d": {code: 0x4E60D400, sources: 2}, "fabs.2d": {code: 0x4EE0F800, sources: 1},
	"fmla.2d":  {code: 0x4E60CC00, sources: 2, adds: true},
	"fcvtl.2d": {code: 0x0E617800, sources: 1, shape: "2d 2s"}, "fcvtl2.2d": {code: 0x4E617800, sources: 1, shape: "2d 4s"},

	"add.4s": {code: 0x4EA08400, sources: 2}, "cmhs.4s": {code: 0x6EA03C00, sources: 2}, "cmtst.4s": {code: 0x4EA08C00, sources: 2},
	"umull.2d": {code: 0x2EA0C000, sources: 2, shape: "2d 2s 2s"}, "umull2.2d": {code: 0x6EA0C000, sources: 2, shape: "2d 4s 4s"},
	"addv.4s": {code: 0x4EB1B800, sources: 1, shape: "s 4s"}, "fmaxv.4s": {code: 0x6E30F800, sources: 1, shape: "s 4s"},

	"and.16b": {code: 0x4E201C00, sources: 2}, "orr.16b": {code: 0x4EA01C00, sources: 2}, "eor.16b": {code: 0x6E201C00, sources: 2},
	"bsl.16b": {code: 0x6E601C00, sources: 2, adds: true}, "mov.16b": {code: 0x4EA01C00, sources: 1},

	// FEAT_BF16.
	"bfmmla.4s": {code: 0x6E40EC00, sources: 2, adds: true, shape: "4s 8h 8h"},
	"bfcvtn.4h": {code: 0x0EA16800, sources: 1, shape: "4h 4s"}, "bfcvtn2.8h": {code: 0x4EA16800, sources: 1, adds: true, shape: "8h 4s"},
	"rev32.8h": {code: 0x6E600800, sources: 1}, "zip1.8h": {code: 0x4E403800, sources: 2},

	"zip1.4s": {code: 0x4E803800, sources: 2}, "zip2.4s": {code: 0x4E807800, sources: 2},
	"zip1.2d": {code: 0x4EC03800, sources: 2}, "zip2.2d": {code: 0x4EC07800, sources: 2},
	"uzp1.4s": {code: 0x4E801800, sources: 2}, "uzp2.4s": {code: 0x4E805800, sources: 2},
}

// encode is the word of an instruction of ops on physical registers, and its mnemonic.
func encode(name string, r []int) (word uint32, text string) {
	o, ok := ops[name]
	if !ok || len(r) != o.sources+1 {
		panic(fmt.Sprintf("neon: %s with %d registers", name, len(r)))
	}
	word = o.code | uint32(r[0]) | uint32(r[1])<<5
	if o.sources == 2 {
		word |= uint32(r[2]) << 16
	} else if name == "mov.16b" { // orr with itself
		word |= uint32(r[1]) << 16
	}
	mnemonic, all, _ := strings.Cut(name, ".")
	shapes := strings.Fields(o.shape)
	for len(shapes) < len(r) {
		shapes = append(shapes, all)
	}
	for i := range r {
		sep := ", "
		if i == 0 {
			sep = " "
		}
		if len(shapes[i]) == 1 {
			mnemonic += fmt.Sprintf("%s%s%d", sep, shapes[i], r[i])
		} else {
			mnemonic += fmt.Sprintf("%sv%d.%s", sep, r[i], shapes[i])
		}
	}
	return word, mnemonic
}

// encodeLane is a multiply-add by one lane of the last operand.
func encodeLane(name string, d, a, b, lane int) (word uint32, text string) {
	code := map[string]uint32{"fmla": 0x4F801000, "fmls": 0x4F805000, "fmul": 0x4F809000}[name]
	word = code | uint32(lane&1)<<21 | uint32(b)<<16 | uint32(lane>>1)<<11 | uint32(a)<<5 | uint32(d)
	return word, fmt.Sprintf("%s v%d.4s, v%d.4s, v%d.s[%d]", name, d, a, b, lane)
}

// encodeShift shifts 32-bit lanes by n bits, 0 < n < 32: shl or ushr.
func encodeShift(name string, d, a, n int) (word uint32, text string) {
	code, at := uint32(0x4F005400), uint32(32+n)
	if name == "ushr" {
		code, at = 0x6F000400, uint32(64-n)
	}
	return code | at<<16 | uint32(a)<<5 | uint32(d), fmt.Sprintf("%s v%d.4s, v%d.4s, #%d", name, d, a, n)
}

// encodeMove are the moves between lanes and from integer registers.
func encodeMove(name string, d, a, lane int) (word uint32, text string) {
	reg := uint32(a)<<5 | uint32(d)
	at := uint32(lane<<3|4) << 16
	switch name {
	case "dup": // a lane to all
		return 0x4E000400 | at | reg, fmt.Sprintf("dup v%d.4s, v%d.s[%d]", d, a, lane)
	case "dupw": // an integer register to all
		return 0x4E040C00 | reg, fmt.Sprintf("dup v%d.4s, w%d", d, a)
	case "umov": // a lane to an integer register
		return 0x0E003C00 | at | reg, fmt.Sprintf("mov w%d, v%d.s[%d]", d, a, lane)
	case "high": // the upper half to the lower one, and the reverse
		return 0x6E004000 | uint32(a)<<16 | reg, fmt.Sprintf("ext v%d.16b, v%d.16b, v%d.16b, #8", d, a, a)
	case "zero":
		return 0x4F000400 | uint32(d), fmt.Sprintf("movi v%d.4s, #0x0", d)
	}
	panic("neon: no move " + name)
}

// encodeMemory is a load or store of one register of 4 (s), 8 (d) or 16 bytes (q) at a
// base and a distance in bytes.
func encodeMemory(store bool, size byte, v, base, off int) (word uint32, text string) {
	bytes := map[byte]int{'s': 4, 'd': 8, 'q': 16}[size]
	code := map[byte]uint32{'s': 0xBD000000, 'd': 0xFD000000, 'q': 0x3D800000}[size]
	name := "str"
	if !store {
		code |= 0x00400000
		name = "ldr"
	}
	reg := uint32(base)<<5 | uint32(v)
	at := fmt.Sprintf("[x%d, #%d]", base, off)
	if off == 0 {
		at = fmt.Sprintf("[x%d]", base)
	}
	if off < 0 || off%bytes != 0 || off/bytes > 4095 {
		panic(fmt.Sprintf("neon: a distance of %d bytes", off))
	}
	return code | uint32(off/bytes)<<10 | reg, fmt.Sprintf("%s %c%d, %s", name, size, v, at)
}

// encodePair loads or stores two q registers at a base and a distance in bytes.
func encodePair(store bool, v, w, base, off int) (word uint32, text string) {
	code, name := uint32(0xAD400000), "ldp"
	if store {
		code, name = 0xAD000000, "stp"
	}
	if off%16 != 0 || off < -1024 || off > 1008 {
		panic(fmt.Sprintf("neon: a distance of %d bytes", off))
	}
	at := fmt.Sprintf("[x%d, #%d]", base, off)
	if off == 0 {
		at = fmt.Sprintf("[x%d]", base)
	}
	return code | uint32(off/16)&127<<15 | uint32(w)<<10 | uint32(base)<<5 | uint32(v), fmt.Sprintf("%s q%d, q%d, %s", name, v, w, at)
}

// encodePost loads a q register and moves the base on by bytes.
func encodePost(store bool, v, base, bytes int) (word uint32, text string) {
	code, name := uint32(0x3CC00400), "ldr"
	if store {
		code, name = 0x3C800400, "str"
	}
	if bytes < -256 || bytes > 255 {
		panic(fmt.Sprintf("neon: a step of %d bytes", bytes))
	}
	return code | uint32(bytes)&511<<12 | uint32(base)<<5 | uint32(v), fmt.Sprintf("%s q%d, [x%d], #%d", name, v, base, bytes)
}

// encodeIndex loads or stores a q register at base + index.
func encodeIndex(store bool, v, base, index int) (word uint32, text string) {
	code, name := uint32(0x3CE06800), "ldr"
	if store {
		code, name = 0x3CA06800, "str"
	}
	return code | uint32(index)<<16 | uint32(base)<<5 | uint32(v), fmt.Sprintf("%s q%d, [x%d, x%d]", name, v, base, index)
}

// encodeRun loads n registers side by side, of four floats each, and moves the base on by
// the register step, or stays where it is negative. "1" reads them in order, "4" takes
// elements apart by their index modulo 4.
func encodeRun(store bool, kind string, v, n, base, step int) (word uint32, text string) {
	opcode := map[int]uint32{1: 7, 2: 10, 3: 6, 4: 2}[n]
	if kind == "4" {
		opcode = 0
	}
	code, name := uint32(0x4C000800), "st"
	if !store {
		code |= 0x00400000
		name = "ld"
	}
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("v%d.4s", v+i)
	}
	text = fmt.Sprintf("%s%s {%s}, [x%d]", name, kind, strings.Join(all, ", "), base)
	if step >= 0 {
		code |= 0x00800000 | uint32(step)<<16
		text += fmt.Sprintf(", x%d", step)
	}
	return code | opcode<<12 | uint32(base)<<5 | uint32(v), text
}

// encodeEvery loads one float, or byte, to all lanes.
func encodeEvery(size string, v, base int) (word uint32, text string) {
	code := uint32(0x4D40C800)
	if size == "16b" {
		code = 0x4D40C000
	}
	return code | uint32(base)<<5 | uint32(v), fmt.Sprintf("ld1r {v%d.%s}, [x%d]", v, size, base)
}

// encodeThird loads or stores lane 2.
func encodeThird(store bool, v, base int) (word uint32, text string) {
	code, name := uint32(0x4D408000), "ld1"
	if store {
		code, name = 0x4D008000, "st1"
	}
	return code | uint32(base)<<5 | uint32(v), fmt.Sprintf("%s {v%d.s}[2], [x%d]", name, v, base)
}

package neon

import (
	"fmt"
	"strings"
)

// Arg reads a parameter of 8 bytes.
func (f *Func) Arg(name string) R {
	r := f.Int()
	f.add(nil, []int{r.id}, func(at []int) string { return fmt.Sprintf("\tMOVD %s, R%d", f.arg(name), at[r.id]) })
	return r
}

// ArgEvery is a float32 parameter in every lane.
func (f *Func) ArgEvery(name string) V {
	r, v := f.Int(), f.Vector()
	f.add(nil, []int{r.id}, func(at []int) string { return fmt.Sprintf("\tMOVWU %s, R%d", f.arg(name), at[r.id]) })
	f.DupInt(v, r)
	return v
}

// Return stores lane 0 as the float32 result, the parameter "ret:4".
func (f *Func) Return(v V) {
	r := f.Int()
	f.ToInt(r, v, 0)
	f.add([]int{r.id}, nil, func(at []int) string { return fmt.Sprintf("\tMOVW R%d, %s", at[r.id], f.arg("ret")) })
}

func (f *Func) arg(name string) string {
	for _, a := range f.args {
		if a.name == name {
			return fmt.Sprintf("%s+%d(FP)", name, a.off)
		}
	}
	panic("neon: no parameter " + name)
}

// Read reads an 8-byte word at base + off.
func (f *Func) Read(base R, off uintptr) R {
	r := f.Int()
	f.ReadTo(r, "MOVD", base, off)
	return r
}

// ReadTo reads by a move of Go's assembler: MOVD, MOVWU, MOVBU.
func (f *Func) ReadTo(r R, move string, base R, off uintptr) {
	f.add([]int{base.id}, []int{r.id}, func(at []int) string {
		return fmt.Sprintf("\t%s %d(R%d), R%d", move, off, at[base.id], at[r.id])
	})
}

// Write stores an integer register at base by a move of Go's assembler.
func (f *Func) Write(move string, r, base R) {
	f.add([]int{base.id, r.id}, nil, func(at []int) string { return fmt.Sprintf("\t%s R%d, (R%d)", move, at[r.id], at[base.id]) })
}

// Field is a float32 at base + off in every lane.
func (f *Func) Field(base R, off uintptr) V {
	r, v := f.Int(), f.Vector()
	f.ReadTo(r, "MOVWU", base, off)
	f.DupInt(v, r)
	return v
}

// Do2 is an integer instruction in Go's order: a number, a register or a Shifted, then a
// register, then the destination. Without a destination it compares.
func (f *Func) Do2(name string, x any, y R, d ...R) {
	uses, defs := []int{y.id}, []int{}
	switch x := x.(type) {
	case R:
		uses = append(uses, x.id)
	case Shifted:
		uses = append(uses, x.R.id)
	case int, int64:
	default:
		panic(fmt.Sprintf("neon: operand %T", x))
	}
	if len(d) > 0 {
		defs = append(defs, d[0].id)
	}
	f.add(uses, defs, func(at []int) string {
		var first string
		switch x := x.(type) {
		case R:
			first = fmt.Sprintf("R%d", at[x.id])
		case Shifted:
			first = fmt.Sprintf("R%d<<%d", at[x.R.id], x.N)
		default:
			first = fmt.Sprintf("$%d", x)
		}
		s := fmt.Sprintf("\t%s %s, R%d", name, first, at[y.id])
		if len(d) > 0 {
			s += fmt.Sprintf(", R%d", at[d[0].id])
		}
		return s
	})
}

// Move copies a register.
func (f *Func) Move(from, to R) {
	f.add([]int{from.id}, []int{to.id}, func(at []int) string { return fmt.Sprintf("\tMOVD R%d, R%d", at[from.id], at[to.id]) })
}

// Set makes a register a number.
func (f *Func) Set(n int, to R) {
	f.add(nil, []int{to.id}, func(at []int) string { return fmt.Sprintf("\tMOVD $%d, R%d", n, at[to.id]) })
}

// Select is d = yes where the condition of the last comparison holds, else no.
func (f *Func) Select(cond string, yes, no, d R) {
	f.add([]int{yes.id, no.id}, []int{d.id}, func(at []int) string {
		return fmt.Sprintf("\tCSEL %s, R%d, R%d, R%d", cond, at[yes.id], at[no.id], at[d.id])
	})
}

// Prefetch fetches the line at base + off.
func (f *Func) Prefetch(base R, off int) {
	f.add([]int{base.id}, nil, func(at []int) string { return fmt.Sprintf("\tPRFM %d(R%d), PLDL1KEEP", off, at[base.id]) })
}

// Address is where a symbol of Data begins.
func (f *Func) Address(symbol string) R {
	r := f.Int()
	f.add(nil, []int{r.id}, func(at []int) string { return fmt.Sprintf("\tMOVD $%s<>(SB), R%d", symbol, at[r.id]) })
	return r
}

// Local reserves bytes on the stack and returns where they begin; one call a function.
func (f *Func) Local(bytes int) R {
	f.frame = (bytes + 15) / 16 * 16
	r := f.Int()
	f.add(nil, []int{r.id}, func(at []int) string { return fmt.Sprintf("\tMOVD $local-%d(SP), R%d", f.frame, at[r.id]) })
	return r
}

// Label is where jumps of that name go.
func (f *Func) Label(name string) {
	f.lines = append(f.lines, instruction{label: name, text: func([]int) string { return name + ":" }})
}

// Jump jumps: B always, BEQ and others by the last comparison.
func (f *Func) Jump(name, label string) {
	f.lines = append(f.lines, instruction{
		target: label, ends: name == "B",
		text: func([]int) string { return "\t" + name + " " + label },
	})
}

// JumpZero jumps by a register: CBZ, CBNZ.
func (f *Func) JumpZero(name string, r R, label string) {
	f.lines = append(f.lines, instruction{
		target: label, uses: []int{r.id},
		text: func(at []int) string { return fmt.Sprintf("\t%s R%d, %s", name, at[r.id], label) },
	})
}

// JumpBit jumps by a bit of a register: TBZ, TBNZ.
func (f *Func) JumpBit(name string, bit int, r R, label string) {
	f.lines = append(f.lines, instruction{
		target: label, uses: []int{r.id},
		text: func(at []int) string { return fmt.Sprintf("\t%s $%d, R%d, %s", name, bit, at[r.id], label) },
	})
}

// End returns from the function.
func (f *Func) End() {
	f.lines = append(f.lines, instruction{ends: true, text: func([]int) string { return "\tRET" }})
}

// Text is the finished function. It panics where it needs more registers than there are.
func (f *Func) Text() string {
	at := f.color()
	var b strings.Builder
	flags := "NOSPLIT"
	if f.frame > 0 {
		flags = "0" // the stack may have to grow
	}
	fmt.Fprintf(&b, "\n// %s is %s.\nTEXT ·%s(SB), %s, $%d-%d\n", f.name, f.doc, f.name, flags, f.frame, f.argBytes)
	for _, l := range f.lines {
		b.WriteString(l.text(at))
		b.WriteByte('\n')
	}
	return b.String()
}

// Header begins a file of functions.
func Header(command string) string {
	return "// Code generated by " + command + ". DO NOT EDIT.\n\n#include \"textflag.h\"\n"
}

// Data is a read-only symbol of words.
func Data(symbol string, words ...uint32) string {
	var b strings.Builder
	b.WriteByte('\n')
	for i, w := range words {
		fmt.Fprintf(&b, "DATA %s<>+%d(SB)/4, $0x%08x\n", symbol, 4*i, w)
	}
	fmt.Fprintf(&b, "GLOBL %s<>(SB), RODATA|NOPTR, $%d\n", symbol, 4*len(words))
	return b.String()
}

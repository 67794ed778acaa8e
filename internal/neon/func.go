package neon

import "fmt"

// V is a virtual vector register.
type V struct{ id int }

// R is a virtual integer register.
type R struct{ id int }

// Shifted is a register shifted left, as an operand of ADD.
type Shifted struct {
	R R
	N int
}

// instruction is one line of a function.
type instruction struct {
	text   func(at []int) string // with the physical register of each virtual one
	uses   []int
	defs   []int
	label  string // that the line is
	target string // that it may jump to
	ends   bool   // nothing falls through
}

// Func is a function being written. Its methods append instructions.
type Func struct {
	name, doc string
	lines     []instruction
	vector    []bool // which virtual registers are vectors
	fixed     map[int]int
	args      []arg
	argBytes  int
	frame     int
	labels    int
}

type arg struct {
	name string
	off  int
}

// NewFunc begins a function of parameters of 8 bytes each, but those whose name ends in
// ":4", of 4 bytes. "ret" is the result.
func NewFunc(name, doc string, params ...string) *Func {
	f := &Func{name: name, doc: doc, fixed: map[int]int{}}
	for _, p := range params {
		size := 8
		if n := len(p) - 2; n > 0 && p[n:] == ":4" {
			p, size = p[:n], 4
		}
		align := size
		if p == "ret" {
			align = 8
		}
		f.argBytes = (f.argBytes + align - 1) / align * align
		f.args = append(f.args, arg{p, f.argBytes})
		f.argBytes += size
	}
	return f
}

func (f *Func) register(vector bool) int {
	f.vector = append(f.vector, vector)
	return len(f.vector) - 1
}

// Vector is a fresh vector register.
func (f *Func) Vector() V { return V{f.register(true)} }

// Int is a fresh integer register.
func (f *Func) Int() R { return R{f.register(false)} }

// Fixed are n vector registers side by side, from physical register first on.
func (f *Func) Fixed(first, n int) []V {
	all := make([]V, n)
	for i := range all {
		all[i] = f.Vector()
		f.fixed[all[i].id] = first + i
	}
	return all
}

// Unique is a label that no other call returns.
func (f *Func) Unique(prefix string) string {
	f.labels++
	return fmt.Sprintf("%s%d", prefix, f.labels)
}

func (f *Func) add(uses, defs []int, text func(at []int) string) {
	f.lines = append(f.lines, instruction{text: text, uses: uses, defs: defs})
}

// word appends a vector instruction.
func (f *Func) word(uses, defs []int, encode func(at []int) (uint32, string)) {
	f.add(uses, defs, func(at []int) string {
		w, text := encode(at)
		return fmt.Sprintf("\tWORD $0x%08x // %s", w, text)
	})
}

// Do is the instruction name, "fadd.4s", on registers, the destination first.
func (f *Func) Do(name string, d V, sources ...V) {
	r, uses := []int{d.id}, []int{}
	for _, s := range sources {
		r, uses = append(r, s.id), append(uses, s.id)
	}
	if ops[name].adds {
		uses = append(uses, d.id)
	}
	f.word(uses, []int{d.id}, func(at []int) (uint32, string) {
		physical := make([]int, len(r))
		for i := range r {
			physical[i] = at[r[i]]
		}
		return encode(name, physical)
	})
}

// New is Do into a fresh register.
func (f *Func) New(name string, sources ...V) V {
	d := f.Vector()
	f.Do(name, d, sources...)
	return d
}

// Lane is d += a b[lane] (fmla), d -= a b[lane] (fmls) or d = a b[lane] (fmul).
func (f *Func) Lane(name string, d, a, b V, lane int) {
	uses := []int{a.id, b.id}
	if name != "fmul" {
		uses = append(uses, d.id)
	}
	f.word(uses, []int{d.id}, func(at []int) (uint32, string) { return encodeLane(name, at[d.id], at[a.id], at[b.id], lane) })
}

// Shift shifts each lane by n bits.
func (f *Func) Shift(name string, d, a V, n int) {
	f.word([]int{a.id}, []int{d.id}, func(at []int) (uint32, string) { return encodeShift(name, at[d.id], at[a.id], n) })
}

// Zero clears a register.
func (f *Func) Zero(d V) {
	f.word(nil, []int{d.id}, func(at []int) (uint32, string) { return encodeMove("zero", at[d.id], 0, 0) })
}

// Dup puts a lane in every lane.
func (f *Func) Dup(d, a V, lane int) {
	f.word([]int{a.id}, []int{d.id}, func(at []int) (uint32, string) { return encodeMove("dup", at[d.id], at[a.id], lane) })
}

// DupInt puts the lower half of an integer register in every lane.
func (f *Func) DupInt(d V, a R) {
	f.word([]int{a.id}, []int{d.id}, func(at []int) (uint32, string) { return encodeMove("dupw", at[d.id], at[a.id], 0) })
}

// ToInt moves a lane to an integer register.
func (f *Func) ToInt(d R, a V, lane int) {
	f.word([]int{a.id}, []int{d.id}, func(at []int) (uint32, string) { return encodeMove("umov", at[d.id], at[a.id], lane) })
}

// Swap exchanges the halves.
func (f *Func) Swap(d, a V) {
	f.word([]int{a.id}, []int{d.id}, func(at []int) (uint32, string) { return encodeMove("high", at[d.id], at[a.id], 0) })
}

// Bits is a constant in every lane.
func (f *Func) Bits(bits uint32) V {
	r, v := f.Int(), f.Vector()
	f.add(nil, []int{r.id}, func(at []int) string { return fmt.Sprintf("\tMOVD $0x%08x, R%d", bits, at[r.id]) })
	f.DupInt(v, r)
	return v
}

// Load loads a vector of size 's', 'd' or 'q'; what is above is zero.
func (f *Func) Load(size byte, d V, base R, off int) {
	f.word([]int{base.id}, []int{d.id}, func(at []int) (uint32, string) { return encodeMemory(false, size, at[d.id], at[base.id], off) })
}

// Store stores the lower bytes of a vector.
func (f *Func) Store(size byte, v V, base R, off int) {
	f.word([]int{base.id, v.id}, nil, func(at []int) (uint32, string) { return encodeMemory(true, size, at[v.id], at[base.id], off) })
}

// LoadPair loads two vectors that lie side by side.
func (f *Func) LoadPair(d, e V, base R, off int) {
	f.word([]int{base.id}, []int{d.id, e.id}, func(at []int) (uint32, string) { return encodePair(false, at[d.id], at[e.id], at[base.id], off) })
}

// StorePair stores two vectors side by side.
func (f *Func) StorePair(d, e V, base R, off int) {
	f.word([]int{base.id, d.id, e.id}, nil, func(at []int) (uint32, string) { return encodePair(true, at[d.id], at[e.id], at[base.id], off) })
}

// LoadNext loads a vector and moves the base on.
func (f *Func) LoadNext(d V, base R, bytes int) {
	f.word([]int{base.id}, []int{d.id, base.id}, func(at []int) (uint32, string) { return encodePost(false, at[d.id], at[base.id], bytes) })
}

// LoadIndex loads a vector at base + index.
func (f *Func) LoadIndex(d V, base, index R) {
	f.word([]int{base.id, index.id}, []int{d.id}, func(at []int) (uint32, string) { return encodeIndex(false, at[d.id], at[base.id], at[index.id]) })
}

// StoreIndex stores a vector at base + index.
func (f *Func) StoreIndex(v V, base, index R) {
	f.word([]int{base.id, index.id, v.id}, nil, func(at []int) (uint32, string) { return encodeIndex(true, at[v.id], at[base.id], at[index.id]) })
}

// LoadRun loads vectors of Fixed side by side and moves the base on by step. kind is "1",
// or "4" to take elements apart by their index modulo 4.
func (f *Func) LoadRun(kind string, d []V, base, step R) {
	f.word([]int{base.id, step.id}, append(ids(d), base.id), func(at []int) (uint32, string) {
		return encodeRun(false, kind, at[d[0].id], len(d), at[base.id], at[step.id])
	})
}

// StoreRun is the reverse of LoadRun.
func (f *Func) StoreRun(kind string, v []V, base, step R) {
	f.word(append(ids(v), base.id, step.id), []int{base.id}, func(at []int) (uint32, string) {
		return encodeRun(true, kind, at[v[0].id], len(v), at[base.id], at[step.id])
	})
}

func ids(v []V) []int {
	all := make([]int, len(v))
	for i := range v {
		all[i] = v[i].id
	}
	return all
}

// Every loads one float ("4s") or byte ("16b") to all lanes.
func (f *Func) Every(size string, d V, base R) {
	f.word([]int{base.id}, []int{d.id}, func(at []int) (uint32, string) { return encodeEvery(size, at[d.id], at[base.id]) })
}

// LoadTail loads left&3 floats, at least 1, and zeros above.
func (f *Func) LoadTail(d V, base, left R) {
	one, done := f.Unique("one"), f.Unique("done")
	f.JumpBit("TBZ", 1, left, one)
	f.Load('d', d, base, 0)
	f.JumpBit("TBZ", 0, left, done)
	third := f.Int()
	f.Do2("ADD", 8, base, third)
	f.word([]int{d.id, third.id}, []int{d.id}, func(at []int) (uint32, string) { return encodeThird(false, at[d.id], at[third.id]) })
	f.Jump("B", done)
	f.Label(one)
	f.Load('s', d, base, 0)
	f.Label(done)
}

// StoreTail stores left&3 floats, at least 1.
func (f *Func) StoreTail(v V, base, left R) {
	one, done := f.Unique("one"), f.Unique("done")
	f.JumpBit("TBZ", 1, left, one)
	f.Store('d', v, base, 0)
	f.JumpBit("TBZ", 0, left, done)
	third := f.Int()
	f.Do2("ADD", 8, base, third)
	f.word([]int{v.id, third.id}, nil, func(at []int) (uint32, string) { return encodeThird(true, at[v.id], at[third.id]) })
	f.Jump("B", done)
	f.Label(one)
	f.Store('s', v, base, 0)
	f.Label(done)
}

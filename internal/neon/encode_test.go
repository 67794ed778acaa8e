package neon

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// every encodes each instruction on registers that set and clear every bit of a field.
func every() (words []uint32, text []string) {
	add := func(w uint32, s string) { words, text = append(words, w), append(text, s) }
	for _, r := range [][]int{{0, 0, 0}, {1, 2, 4}, {8, 16, 31}, {31, 8, 16}, {21, 10, 21}} {
		for _, name := range slices.Sorted(maps.Keys(ops)) {
			add(encode(name, r[:ops[name].sources+1]))
		}
		for lane := range 4 {
			for _, name := range []string{"fmla", "fmls", "fmul"} {
				add(encodeLane(name, r[0], r[1], r[2], lane))
			}
			add(encodeMove("dup", r[0], r[1], lane))
			add(encodeMove("umov", r[0]&15, r[1], lane))
		}
		for _, n := range []int{1, 8, 23, 31} {
			add(encodeShift("shl", r[0], r[1], n))
			add(encodeShift("ushr", r[0], r[1], n))
		}
		base, index := r[1]&15, r[2]&15
		for _, name := range []string{"dupw", "high", "zero"} {
			add(encodeMove(name, r[0], base, 0))
		}
		for _, store := range []bool{false, true} {
			for _, off := range []int{0, 16, 1008, 4080} {
				for _, size := range []byte("sdq") {
					add(encodeMemory(store, size, r[0], base, off))
				}
			}
			for _, off := range []int{0, 32, -1024, 1008} {
				add(encodePair(store, r[0], r[2]^1, base, off))
			}
			for _, step := range []int{16, -256, 240} {
				add(encodePost(store, r[0], base, step))
			}
			add(encodeIndex(store, r[0], base, index))
			for n := 1; n <= 4; n++ {
				add(encodeRun(store, "1", r[0]&15, n, base, index))
				add(encodeRun(store, "1", r[0]&15, n, base, -1))
			}
			add(encodeRun(store, "4", r[0]&15, 4, base, index))
			add(encodeThird(store, r[0], base))
		}
		add(encodeEvery("4s", r[0], base))
		add(encodeEvery("16b", r[0], base))
	}
	return words, text
}

// GNU's assembler makes the same words of the comments.
func TestEncoderAgreesWithGNU(t *testing.T) {
	as, err := exec.LookPath("aarch64-linux-gnu-as")
	if err != nil {
		t.Skip("needs Debian's binutils-aarch64-linux-gnu: no aarch64-linux-gnu-as")
	}
	words, text := every()
	dir := t.TempDir()
	source, object, raw := filepath.Join(dir, "a.s"), filepath.Join(dir, "a.o"), filepath.Join(dir, "a.bin")
	require.NoError(t, os.WriteFile(source, []byte(strings.Join(text, "\n")+"\n"), 0o600))
	out, err := exec.Command(as, "-march=armv8.6-a", "-o", object, source).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command(strings.TrimSuffix(as, "as")+"objcopy", "-O", "binary", "-j", ".text", object, raw).CombinedOutput()
	require.NoError(t, err, "%s", out)
	want, err := os.ReadFile(raw)
	require.NoError(t, err)
	require.Len(t, want, 4*len(words))
	for i, w := range words {
		gnu := uint32(want[4*i]) | uint32(want[4*i+1])<<8 | uint32(want[4*i+2])<<16 | uint32(want[4*i+3])<<24
		require.Equal(t, fmt.Sprintf("%08x", gnu), fmt.Sprintf("%08x", w), text[i])
	}
}

// Registers that are live at the same time get places of their own, also around a loop.
func TestColor(t *testing.T) {
	f := NewFunc("sum", "a sum", "x", "n", "ret:4")
	x, n, acc, v, one := f.Arg("x"), f.Arg("n"), f.Vector(), f.Vector(), f.Bits(1)
	f.Zero(acc)
	f.Label("loop")
	f.LoadNext(v, x, 16)
	f.Do("fadd.4s", acc, acc, v)
	w := f.New("fmul.4s", acc, one)
	f.Do2("SUBS", 1, n, n)
	f.Jump("BNE", "loop")
	f.Return(w)
	f.End()
	at := f.color()
	require.NotEqual(t, at[x.id], at[n.id])
	for _, pair := range [][2]V{{acc, v}, {acc, one}, {v, one}, {acc, w}, {one, w}} {
		require.NotEqual(t, at[pair[0].id], at[pair[1].id])
	}
	require.Contains(t, f.Text(), "TEXT ·sum(SB), NOSPLIT, $0-20\n")

	g := NewFunc("full", "too much")
	var all []V
	for range 33 {
		v := g.Vector()
		g.Zero(v)
		all = append(all, v)
	}
	for _, v := range all[1:] {
		g.Do("fadd.4s", all[0], all[0], v)
	}
	g.End()
	require.PanicsWithValue(t, "neon: full needs more registers (vectors: true)", func() { g.Text() })

	h := NewFunc("unset", "a read before the write")
	h.Do("fadd.4s", h.Vector(), h.Vector(), h.Vector())
	h.End()
	require.Panics(t, func() { h.Text() })
}

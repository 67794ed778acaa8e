package kernel

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// The offsets that gen's files state as constants.
func TestAssemblyLayout(t *testing.T) {
	var u Tile
	var v TileT
	var g Grid
	var m Mask
	var p Patch
	var r Rows
	require.Equal(t,
		[]uintptr{0, 24, 48, 72, 96, 120, 144, 168, 192, 216, 224, 232, 240, 248},
		[]uintptr{
			unsafe.Offsetof(u.A), unsafe.Offsetof(u.ARow), unsafe.Offsetof(u.Tap), unsafe.Offsetof(u.B),
			unsafe.Offsetof(u.C), unsafe.Offsetof(u.CRow), unsafe.Offsetof(u.Init), unsafe.Offsetof(u.IRow),
			unsafe.Offsetof(u.Residual), unsafe.Offsetof(u.K), unsafe.Offsetof(u.LDB),
			unsafe.Offsetof(u.Rows), unsafe.Offsetof(u.Cols), unsafe.Offsetof(u.Fresh),
		})
	require.Equal(t,
		[]uintptr{0, 24, 48, 72, 96, 120, 128, 136, 144, 152, 160, 168},
		[]uintptr{
			unsafe.Offsetof(v.A), unsafe.Offsetof(v.ASeg), unsafe.Offsetof(v.B), unsafe.Offsetof(v.BSeg),
			unsafe.Offsetof(v.C), unsafe.Offsetof(v.P), unsafe.Offsetof(v.AStep), unsafe.Offsetof(v.BStep),
			unsafe.Offsetof(v.LDC), unsafe.Offsetof(v.Rows), unsafe.Offsetof(v.Cols), unsafe.Offsetof(v.Fresh),
		})
	require.Equal(t,
		[]uintptr{0, 24, 48, 72, 96, 120, 144, 168, 216, 224, 232, 240, 264},
		[]uintptr{
			unsafe.Offsetof(g.X), unsafe.Offsetof(g.Y), unsafe.Offsetof(g.Dst), unsafe.Offsetof(g.A),
			unsafe.Offsetof(g.B), unsafe.Offsetof(g.C), unsafe.Offsetof(g.D), unsafe.Offsetof(g.Sum),
			unsafe.Offsetof(g.Rows), unsafe.Offsetof(g.Cols), unsafe.Offsetof(g.LD), unsafe.Offsetof(g.Bits),
			unsafe.Offsetof(g.Keep),
		})
	require.Equal(t,
		[]uintptr{0, 8, 12, 16, 24, 28, 32},
		[]uintptr{
			unsafe.Offsetof(m.Key), unsafe.Offsetof(m.Block), unsafe.Offsetof(m.Stream), unsafe.Offsetof(m.Draw),
			unsafe.Offsetof(m.Limit), unsafe.Offsetof(m.Keep), unsafe.Offsetof(m.Rounds),
		})
	require.Equal(t,
		[]uintptr{0, 24, 48, 72, 96, 120, 128, 136, 144, 152, 160, 168, 176, 184, 192, 200, 208, 216, 224},
		[]uintptr{
			unsafe.Offsetof(p.Src), unsafe.Offsetof(p.Dst), unsafe.Offsetof(p.Bias), unsafe.Offsetof(p.Residual),
			unsafe.Offsetof(p.Zeros), unsafe.Offsetof(p.N), unsafe.Offsetof(p.Cols), unsafe.Offsetof(p.SrcAt),
			unsafe.Offsetof(p.SrcRow), unsafe.Offsetof(p.SrcCol), unsafe.Offsetof(p.SrcStep),
			unsafe.Offsetof(p.DstRow), unsafe.Offsetof(p.DstCol), unsafe.Offsetof(p.DstStep),
			unsafe.Offsetof(p.RowLo), unsafe.Offsetof(p.RowHi), unsafe.Offsetof(p.ColLo), unsafe.Offsetof(p.ColHi),
			unsafe.Offsetof(p.Row),
		})
	require.Equal(t,
		[]uintptr{0, 24, 48, 72, 96, 120, 128, 136, 144},
		[]uintptr{
			unsafe.Offsetof(r.X), unsafe.Offsetof(r.Y), unsafe.Offsetof(r.Dst), unsafe.Offsetof(r.Top),
			unsafe.Offsetof(r.Sum), unsafe.Offsetof(r.Rows), unsafe.Offsetof(r.Cols), unsafe.Offsetof(r.LD),
			unsafe.Offsetof(r.Scale),
		})
}

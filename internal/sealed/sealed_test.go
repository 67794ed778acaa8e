package sealed_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/sealed"
	"github.com/agrdist/agrdist/internal/vfs"
	"github.com/agrdist/agrdist/internal/vfs/vfstest"
)

type document struct {
	Name  string   `json:"name"`
	Port  int      `json:"port,omitempty"`
	Peers []string `json:"peers,omitempty"`
}

var sample = document{Name: "n0", Port: 7946, Peers: []string{"10.0.0.1:1", "10.0.0.2:2"}}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := sealed.Marshal(v)
	require.NoError(t, err)
	return text
}

func TestRoundTrip(t *testing.T) {
	text := marshal(t, sample)
	require.Regexp(t, `(?s)^\{\n  "name": "n0",.*,\n  "sha256": "[0-9a-f]{64}"\n\}\n$`, string(text))
	var got document
	checked, err := sealed.Unmarshal(text, &got)
	require.NoError(t, err)
	require.True(t, checked)
	require.Equal(t, sample, got)
	_, err = sealed.Marshal(struct{}{})
	require.Error(t, err)
	_, err = sealed.Marshal([]int{1})
	require.Error(t, err)
}

// Every bit flipped, every length cut to: an error.
func TestAnyDamageIsAnError(t *testing.T) {
	text := marshal(t, sample)
	damaged := func(what string, text []byte) {
		t.Helper()
		var got document
		_, err := sealed.Unmarshal(text, &got)
		require.ErrorIs(t, err, sealed.ErrDamaged, what)
		require.NotContains(t, err.Error(), "\n")
	}
	for i := range text {
		for bit := range 8 {
			bad := append([]byte{}, text...)
			bad[i] ^= 1 << bit
			damaged(fmt.Sprintf("byte %d, bit %d", i, bit), bad)
		}
		damaged(fmt.Sprintf("cut to %d", i), text[:i])
	}
	damaged("twice", append(append([]byte{}, text...), text...))
	damaged("more", append(append([]byte{}, text...), ' '))
	damaged("zeroes", make([]byte, len(text)))
}

// What earlier versions wrote has no checksum.
func TestWithoutChecksum(t *testing.T) {
	var got document
	checked, err := sealed.Unmarshal([]byte(`{"name": "n0", "port": 7}`+"\n"), &got)
	require.NoError(t, err)
	require.False(t, checked)
	require.Equal(t, document{Name: "n0", Port: 7}, got)
	for _, bad := range []string{"", " \n", "{", `{"name":"n0"} x`, `{"name":"n0"}{}`, `{"mane":"n0"}`, `{"name":7}`, `{"name":"n0","sha256":"00"}`} {
		_, err := sealed.Unmarshal([]byte(bad), &got)
		require.ErrorIs(t, err, sealed.ErrDamaged, bad)
	}
}

func FuzzUnmarshal(f *testing.F) {
	text, err := sealed.Marshal(sample)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"name": "n0"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var got document
		checked, err := sealed.Unmarshal(text, &got)
		if err != nil || !checked {
			return
		}
		var again document
		_, err = sealed.Unmarshal(marshal(t, got), &again)
		require.NoError(t, err)
	})
}

// The power goes, or the process, at every call: the old document or the new one is
// there, the new one for certain once Write has returned, and nothing else stays.
func TestCrashAtEveryCall(t *testing.T) {
	const path = "/run/doc.json"
	end := errors.New("power cut")
	for first, at := false, int64(0); ; at++ {
		mem := vfstest.NewMem()
		require.NoError(t, mem.MkdirAll("/run"))
		require.NoError(t, mem.SyncDir("/"))
		if !first {
			require.NoError(t, sealed.Write(mem, path, document{Name: "old"}))
		}
		off := false
		_ = sealed.Write(&vfstest.Hooked{FS: mem, Hook: func(c vfstest.Call) error {
			if off = off || c.N >= at; off {
				return end
			}
			return nil
		}}, path, document{Name: "new"})
		for _, loss := range vfstest.Losses {
			where := fmt.Sprintf("first %t, call %d, %v", first, at, loss)
			after := mem.CrashWith(loss)
			require.NoError(t, sealed.Sweep(after, "/run"))
			names, err := after.ReadDir("/run")
			require.NoError(t, err)
			var got document
			checked, err := sealed.Read(after, path, &got)
			if first && len(names) == 0 {
				require.True(t, off, where)
				continue
			}
			require.NoError(t, err, where)
			require.True(t, checked, where)
			require.Equal(t, []string{"doc.json"}, names, where)
			require.Contains(t, []string{"old", "new"}, got.Name, where)
			if !off {
				require.Equal(t, "new", got.Name, where)
			}
		}
		switch {
		case off:
		case first:
			return
		default:
			require.Greater(t, at, int64(4))
			first, at = true, -1
		}
	}
}

// Each call fails once: the error names it, the old document stays or the new one is
// there, and the temporary file is gone.
func TestFaultAtEveryCall(t *testing.T) {
	const path = "/run/doc.json"
	fault := errors.New("fault")
	seen := map[string]bool{}
	for at := int64(0); ; at++ {
		mem := vfstest.NewMem()
		require.NoError(t, mem.MkdirAll("/run"))
		require.NoError(t, sealed.Write(mem, path, document{Name: "old"}))
		var op string
		err := sealed.Write(&vfstest.Hooked{FS: mem, Hook: func(c vfstest.Call) error {
			if c.N == at {
				op = c.Op
				return fault
			}
			return nil
		}}, path, document{Name: "new"})
		if op == "" {
			require.NoError(t, err)
			break
		}
		seen[op] = true
		require.ErrorIs(t, err, fault, op)
		require.NotContains(t, err.Error(), "\n")
		require.NotContains(t, err.Error(), "also", "no failure of clearing up hides the cause")
		names, dirErr := mem.ReadDir("/run")
		require.NoError(t, dirErr)
		require.Equal(t, []string{"doc.json"}, names, op)
		var got document
		_, err = sealed.Read(mem, path, &got)
		require.NoError(t, err)
		require.Equal(t, op == "syncdir", got.Name == "new", op)
	}
	for _, op := range []string{"create", "write", "sync", "close", "rename", "syncdir"} {
		require.True(t, seen[op], op)
	}
}

// A process that starts sweeps a file away that another one is writing.
func TestSweptWhileWriting(t *testing.T) {
	mem := vfstest.NewMem()
	require.NoError(t, mem.MkdirAll("/run"))
	swept := false
	h := &vfstest.Hooked{FS: mem, Hook: func(c vfstest.Call) error {
		if c.Op == "rename" && !swept {
			swept = true
			return sealed.Sweep(mem, "/run")
		}
		return nil
	}}
	require.NoError(t, sealed.Write(h, "/run/doc.json", sample))
	var got document
	_, err := sealed.Read(mem, "/run/doc.json", &got)
	require.NoError(t, err)
	require.Equal(t, sample, got)
}

func TestSweepTakesNothingElse(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, sealed.Write(vfs.OS{}, dir+"/doc.json", sample))
	for _, name := range []string{".doc.json.1-2.tmp", ".doc.tmp", "doc.json.1-2.tmp", ".tmp-step-1-2"} {
		require.NoError(t, sealed.Replace(vfs.OS{}, dir+"/"+name, []byte("x")))
	}
	require.NoError(t, sealed.Sweep(vfs.OS{}, dir))
	names, err := vfs.OS{}.ReadDir(dir)
	require.NoError(t, err)
	require.Equal(t, ".doc.tmp .tmp-step-1-2 doc.json doc.json.1-2.tmp", strings.Join(names, " "))
	require.NoError(t, sealed.Sweep(vfs.OS{}, dir+"/none"))
}

package checkpoint

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func testManifest() Manifest {
	return Manifest{
		Format: manifestFormat, Version: 1, Step: 600, Updates: 598, Seed: 1<<64 - 1, ConfigHash: "c0ffee", DataCursor: 19200, HasEMA: true,
		Created: testTime, AgrdistVersion: "v0.1.0", Meta: map[string]string{"b": "<&>", "a": "\u2028"}, ModelDigest: strings.Repeat("ab", 32),
		Files: []FileInfo{{ModelFile, 1000, strings.Repeat("01", 32), 3}, {EMAFile, 1000, strings.Repeat("23", 32), 3}, {OptimizerFile, 2000, strings.Repeat("45", 32), 6}},
	}
}

func TestManifestRoundTrip(t *testing.T) {
	want := testManifest()
	text, err := want.encode()
	require.NoError(t, err)
	got, err := decodeManifest(text)
	require.NoError(t, err)
	want.Checksum = got.Checksum
	require.Equal(t, want, *got)
	require.Equal(t, int64(4000), got.Bytes())
	f, ok := got.File(EMAFile)
	require.True(t, ok)
	require.Equal(t, want.Files[1], f)
}

// No byte of a manifest can be lost, and no bit of it changed, unseen: of each
// byte the bit that makes the case of a letter, and another one in turn.
func TestManifestSeesEveryBit(t *testing.T) {
	text, err := testManifest().encode()
	require.NoError(t, err)
	for i := range text {
		_, err := decodeManifest(text[:i])
		require.Error(t, err, "cut to %d bytes", i)
		for _, bit := range []int{5, i % 8} {
			b := bytes.Clone(text)
			b[i] ^= 1 << bit
			_, err := decodeManifest(b)
			require.Error(t, err, "bit %d of byte %d (%q)", bit, i, text[i])
		}
	}
	_, err = decodeManifest(append(text, ' '))
	require.ErrorContains(t, err, "changed or damaged")
}

func TestManifestRefuses(t *testing.T) {
	for want, change := range map[string]func(*Manifest){
		"format is \"x\"":                        func(m *Manifest) { m.Format = "x" },
		"use a newer agrdist":                    func(m *Manifest) { m.Version = 2 },
		"make no sense":                          func(m *Manifest) { m.Version = 0 },
		"step -1":                                func(m *Manifest) { m.Step = -1 },
		"updates 601":                            func(m *Manifest) { m.Updates = 601 },
		`lists "../../etc/passwd"`:               func(m *Manifest) { m.Files[0].Name = "../../etc/passwd" },
		"does not list optimizer.safetensors":    func(m *Manifest) { m.Files = m.Files[:2] },
		"does not list model.safetensors":        func(m *Manifest) { m.Files = m.Files[1:] },
		"has_ema is false":                       func(m *Manifest) { m.HasEMA = false },
		`lists "model.safetensors" out of order`: func(m *Manifest) { m.Files = append(m.Files, m.Files[0]) },
	} {
		m := testManifest()
		change(&m)
		text, err := m.encode()
		require.NoError(t, err)
		_, err = decodeManifest(text)
		require.ErrorContains(t, err, want)
	}
	_, err := decodeManifest([]byte("{"))
	require.ErrorContains(t, err, "not valid JSON")
}

func TestStepNames(t *testing.T) {
	for _, n := range []int64{0, 7, 600, 1<<63 - 1} {
		got, ok := parseStep(DirName(n))
		require.True(t, ok)
		require.Equal(t, n, got)
	}
	for _, bad := range []string{"step-", "step-07", "step-+7", "step--1", "step-1 ", "Step-1", "step-9223372036854775808", "step-1.tmp", "1"} {
		_, ok := parseStep(bad)
		require.False(t, ok, bad)
	}
}

func FuzzManifest(f *testing.F) {
	text, err := testManifest().encode()
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"format":"agrdist-checkpoint","format_version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		require.NoError(t, err)
		require.Equal(t, b, again, "an accepted text is the only one of its manifest")
	})
}

package spec

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpecKeepsEveryByte(t *testing.T) {
	s := Spec{
		Member: "n/1/abcd", Node: "n\xff", Slot: 1, RunDir: "/tmp/caf\xe9", RunID: "r", Coordinator: "/tmp/caf\xe9/c.addr",
		Advertised: "10.0.0.1:7946", Secrets: [][]byte{{0, 255}, {1}}, Config: "out: x\n",
	}
	b, err := s.Encode()
	require.NoError(t, err)
	got, err := Read(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, s, got)
	_, err = Read(bytes.NewReader(b[:len(b)/2]))
	require.ErrorContains(t, err, "damaged")
	_, err = Read(bytes.NewReader(nil))
	require.ErrorContains(t, err, "damaged")
}

func TestSecretsGoThroughAPipe(t *testing.T) {
	var pipe bytes.Buffer
	sent := [][][]byte{{{0, 255}}, {[]byte("a"), []byte("b\n")}, {[]byte("b")}}
	for _, s := range sent {
		require.NoError(t, WriteSecrets(&pipe, s))
	}
	var got [][][]byte
	take := func(s [][]byte) { got = append(got, s) }
	require.NoError(t, ReadSecrets(bytes.NewReader(pipe.Bytes()), take))
	require.Equal(t, sent, got)
	err := ReadSecrets(strings.NewReader(`["c2VjcmV0`), take)
	require.ErrorContains(t, err, "damaged")
	require.NotContains(t, err.Error(), "c2Vj")
}

func TestReachable(t *testing.T) {
	for _, c := range []struct{ bound, advertised, want string }{
		{"127.0.0.1:1", "10.0.0.1:2", "127.0.0.1:1"},
		{"0.0.0.0:1", "10.0.0.1:2", "10.0.0.1:1"},
		{"[::]:1", "[fd00::2]:2", "[fd00::2]:1"},
	} {
		got, err := Reachable(c.bound, c.advertised)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := Reachable("nonsense", "10.0.0.1:2")
	require.Error(t, err)
	_, err = Reachable("0.0.0.0:1", "nonsense")
	require.Error(t, err)
}

func TestRecordsSurviveTheLine(t *testing.T) {
	for _, r := range []Record{
		{Notice: &Notice{"WARN", "two\nlines"}},
		{Written: &Written{Step: 58}},
		{Saved: &Saved{Step: 58, Node: "n1", Path: "/r/checkpoints/step-58"}},
		{End: &End{Code: 42, Source: "data", Text: "no images"}},
	} {
		var b bytes.Buffer
		require.NoError(t, r.Write(&b))
		require.Equal(t, 1, bytes.Count(b.Bytes(), []byte("\n")))
		got, err := ParseRecord(b.Bytes())
		require.NoError(t, err)
		require.Equal(t, r, got)
	}
}

func TestRecordsAreValidText(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, Record{End: &End{Text: "caf\xe9.png: x"}}.Write(&b))
	got, err := ParseRecord(b.Bytes())
	require.NoError(t, err)
	require.Equal(t, `caf\xe9.png: x`, got.End.Text)
	b.Reset()
	require.NoError(t, Record{Saved: &Saved{Path: "/caf\xe9"}}.Write(&b))
	got, err = ParseRecord(b.Bytes())
	require.NoError(t, err)
	require.Equal(t, `/caf\xe9`, got.Saved.Path)
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"end":{"code":1,"text":"x"}}`))
	f.Add([]byte(`{"end":{},"saved":{}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRecord(line)
		if err != nil {
			return
		}
		var b bytes.Buffer
		require.NoError(t, r.Write(&b))
		again, err := ParseRecord(b.Bytes())
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

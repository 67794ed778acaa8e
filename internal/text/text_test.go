package text

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestValid(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "",
		"plain":              "plain",
		"café \u0000 \ufffd": "café \u0000 \ufffd",
		"caf\xe9.png":        `caf\xe9.png`,
		"\xff\xfe":           `\xff\xfe`,
		"é\xc3":              `é\xc3`,        // a rune cut in half
		"\xed\xa0\x80":       `\xed\xa0\x80`, // a surrogate
	} {
		require.Equal(t, want, Valid(in))
	}
}

func FuzzValid(f *testing.F) {
	f.Add("caf\xe9")
	f.Fuzz(func(t *testing.T, s string) {
		v := Valid(s)
		require.True(t, utf8.ValidString(v))
		if utf8.ValidString(s) {
			require.Equal(t, s, v)
		}
	})
}

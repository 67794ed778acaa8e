package text

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Valid returns s with every byte that is not part of valid UTF-8 as \xNN, as
// strconv.Quote writes it. Text that is valid UTF-8 comes back unchanged.
func Valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

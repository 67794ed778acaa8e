package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxNamed is how many members or causes a text names.
const maxNamed = 16

func names(members []Member) string {
	s := make([]string, min(len(members), maxNamed))
	for i := range s {
		s[i] = members[i].String()
	}
	return some(s, len(members), ", ")
}

// some joins what is named of so many.
func some(named []string, of int, by string) string {
	if more := of - len(named); more > 0 {
		named = append(slices.Clone(named), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(named, by)
}

// because joins causes.
func because(causes ...string) string {
	return some(causes[:min(len(causes), maxNamed)], len(causes), "; ")
}

// round makes durations fit for people.
func round(d time.Duration) time.Duration {
	if d >= time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

// count writes "1 worker" and "2 workers".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

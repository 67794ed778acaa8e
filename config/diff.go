package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Difference is a key that two configurations set differently.
type Difference struct {
	Key  string
	A, B any // the values; nil: unset, the default counts
}

// Diff lists the keys on which the nodes of one run must agree and a and b do not,
// in the order of Keys. Keys that belong to a node (Key.Node) are left out. So is a
// data.fingerprint that one of them does not know yet.
func Diff(a, b *Config) []Difference {
	return differences(a, b, func(k Key) bool { return !k.Node })
}

func differences(a, b *Config, counts func(Key) bool) []Difference {
	var out []Difference
	for _, k := range Keys() {
		if !counts(k) || k.Name == "data.fingerprint" && (a.Data.Fingerprint == "" || b.Data.Fingerprint == "") {
			continue
		}
		if x, y := k.Value(a), k.Value(b); !equal(x, y) {
			out = append(out, Difference{k.Name, x, y})
		}
	}
	return out
}

// equal compares two values of one key; an empty list is no list.
func equal(x, y any) bool {
	v, w := reflect.ValueOf(x), reflect.ValueOf(y)
	if v.IsValid() && v.Kind() == reflect.Slice && v.Len() == 0 && w.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(x, y)
}

// Describe words differences in one line, as "seed is 7 on node b and 42 on node
// a", with a and b the names of the two sides. Of many it names the first five.
func Describe(diff []Difference, a, b string) string {
	var parts []string
	for i, d := range diff {
		if i == 5 {
			parts = append(parts, fmt.Sprintf("and %d more keys differ", len(diff)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("%s is %v %s and %v %s", d.Key, shown(d.A), a, shown(d.B), b))
	}
	return strings.Join(parts, "; ")
}

// Contradictions compares a configuration with the one a checkpoint was written
// under and describes every setting of the model's bits that differs.
func (c *Config) Contradictions(saved *Config) []string {
	var out []string
	for _, d := range differences(c, saved, func(k Key) bool { return k.Bits }) {
		out = append(out, fmt.Sprintf("%s is %v, the checkpoint has %v", d.Key, shown(d.A), shown(d.B)))
	}
	return out
}

// shown is a value as errors print it.
func shown(v any) any {
	switch v {
	case nil:
		return "the default"
	case "":
		return "empty"
	}
	return v
}

package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader walks a document's tree. It works on nodes, not on decoded values: the
// decoder would decide what 010 and yes mean before the key's type is known.
type reader struct {
	keys   []Key
	out    []setting
	faults []lineError
	seen   map[string]int      // line of each key
	used   map[*yaml.Node]bool // nodes that an alias stands for
	merges int
}

func (r *reader) fault(n *yaml.Node, err error) { r.faults = append(r.faults, lineError{n.Line, err}) }

// aliases notes what the document's aliases stand for.
func (r *reader) aliases(n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		r.used[n.Alias] = true
	}
	for _, c := range n.Content {
		r.aliases(c)
	}
}

// section reads the keys of a mapping. Keys of a merge (<<) count where the
// mapping has none of its own.
func (r *reader) section(n *yaml.Node, prefix string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		r.fault(n, notASection(n, prefix))
		return
	}
	own := map[string]bool{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind == yaml.AliasNode:
			key = key.Alias
		case key.Tag == "!!merge":
			merged = append(merged, val)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			r.fault(key, errors.New("a key is one word, such as steps"))
			continue
		}
		own[key.Value] = true
		r.entry(key, val, prefix)
	}
	for _, m := range merged {
		r.merge(m, prefix, own, 0)
	}
}

// entry reads one key of a section.
func (r *reader) entry(key, val *yaml.Node, prefix string) {
	name := prefix + key.Value
	isKey, isSection := known(name, r.keys), section(name, r.keys)
	if isKey || isSection {
		if first, twice := r.seen[name]; twice {
			r.fault(key, fmt.Errorf("%s was already set on line %d", name, first))
			return
		}
		r.seen[name] = key.Line
	}
	switch {
	case isKey:
		v, err := nodeValue(val)
		if err != nil {
			r.fault(val, fmt.Errorf("%s: %w", name, err))
			return
		}
		r.out = append(r.out, setting{name, v, val.Line})
	case isSection:
		if val.Kind == yaml.ScalarNode && val.Tag == "!!null" {
			return // a section with nothing in it
		}
		r.section(val, name+".")
	case prefix == "" && (strings.HasPrefix(name, "x-") || r.shelf(val)):
		// a place for anchors
	default:
		r.fault(key, unknownKey(name, val.Kind == yaml.MappingNode, r.keys))
	}
}

// shelf tells whether a value is there for others to refer to: an anchor that an
// alias uses stands on it, or on one of its parts.
func (r *reader) shelf(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		return false
	}
	if n.Anchor != "" && r.used[n] {
		return true
	}
	return slices.ContainsFunc(n.Content, r.shelf)
}

// maxMerges is more than any configuration has, and less than what mappings that
// merge each other twice make of a short file.
const maxMerges = 100

// merge reads what << stands for: a mapping, or a list of them of which the first
// one that has a key counts.
func (r *reader) merge(n *yaml.Node, prefix string, own map[string]bool, depth int) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if r.merges++; r.merges > maxMerges || depth > 10 {
		if r.merges <= maxMerges+1 {
			r.merges = maxMerges + 1
			r.fault(n, errors.New("<< merges too much"))
		}
		return
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for _, m := range n.Content {
			r.merge(m, prefix, own, depth+1)
		}
	case yaml.MappingNode:
		var deeper []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, val := n.Content[i], n.Content[i+1]
			switch {
			case key.Tag == "!!merge":
				deeper = append(deeper, val)
			case key.Kind == yaml.ScalarNode && !own[key.Value]:
				own[key.Value] = true
				if _, set := r.seen[prefix+key.Value]; !set { // by its dotted name
					r.entry(key, val, prefix)
				}
			}
		}
		for _, m := range deeper {
			r.merge(m, prefix, own, depth+1)
		}
	default:
		r.fault(n, errors.New("<< takes a mapping: an alias, such as *defaults, or {key: value}"))
	}
}

func notASection(n *yaml.Node, prefix string) error {
	what := "a list"
	if n.Kind == yaml.ScalarNode {
		what = fmt.Sprintf("%q", n.Value)
	}
	if prefix == "" {
		return fmt.Errorf("expected sections and keys, such as `seed: 42`, found %s", what)
	}
	name := strings.TrimSuffix(prefix, ".")
	return fmt.Errorf("%s is a section with keys of its own, such as %s, not %s", name, example(prefix), what)
}

// example is the first key of a section.
func example(prefix string) string {
	for _, k := range Keys() {
		if strings.HasPrefix(k.Name, prefix) {
			return k.Name
		}
	}
	return ""
}

func known(name string, keys []Key) bool {
	for _, k := range keys {
		if k.Name == name {
			return true
		}
	}
	return false
}

func section(name string, keys []Key) bool {
	for _, k := range keys {
		if strings.HasPrefix(k.Name, name+".") {
			return true
		}
	}
	return false
}

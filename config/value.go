package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// value is a setting as it was written, before the type of its key says what it
// means: 010, 1e5, yes and null are texts until then. Every source gives values,
// so that a key reads the same text alike in a file, in the environment and after
// --set.
type value struct {
	text   string
	quoted bool    // it stood in quotes
	list   []value // a YAML list; nil: text counts
}

// textValue is a value from outside a YAML document. Quotes around all of it are
// YAML's, as they are in a file.
func textValue(text string) value {
	text = strings.TrimSpace(text)
	if len(text) >= 2 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0] {
		var doc yaml.Node
		if yaml.Unmarshal([]byte(text), &doc) == nil && len(doc.Content) == 1 && doc.Content[0].Kind == yaml.ScalarNode {
			return value{text: doc.Content[0].Value, quoted: true}
		}
	}
	return value{text: text}
}

// nodeValue is a value from a YAML document.
func nodeValue(n *yaml.Node) (value, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Style&yaml.TaggedStyle != 0 && !slices.Contains(tags, n.Tag) {
		return value{}, fmt.Errorf("the tag %s has no meaning here; leave it out", n.Tag)
	}
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!binary" {
			b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), ""))
			if err != nil {
				return value{}, errors.New("what follows !!binary is not base64")
			}
			return value{text: string(b), quoted: true}, nil
		}
		const quotes = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
		return value{text: n.Value, quoted: n.Style&quotes != 0}, nil
	case yaml.SequenceNode:
		v := value{list: []value{}}
		for i, item := range n.Content {
			x, err := nodeValue(item)
			if err == nil && x.list != nil {
				err = errors.New("a list within a list")
			}
			if err != nil {
				return value{}, fmt.Errorf("element %d: %w", i+1, err)
			}
			v.list = append(v.list, x)
		}
		return v, nil
	case yaml.MappingNode:
		return value{}, errors.New("keys below a setting; it takes a value")
	default:
		return value{}, errors.New("no value")
	}
}

// tags are YAML's own. Key types decide, so they change nothing.
var tags = []string{"!", "!!str", "!!int", "!!float", "!!bool", "!!null", "!!seq", "!!binary", "!!timestamp"}

// unset tells whether the value says that there is none, for a key whose type
// has no other use for these words.
func (v value) unset() bool {
	return v.list == nil && !v.quoted && (v.text == "" || v.text == "~" || strings.EqualFold(v.text, "null"))
}

// items is the value as a list: a YAML list, or elements between commas, with or
// without brackets around all of them.
func (v value) items() ([]value, error) {
	if v.list != nil {
		return v.list, nil
	}
	text := strings.TrimSpace(v.text)
	if !v.quoted && v.unset() {
		return nil, nil
	}
	if end := closing(text); end == len(text)-1 && end > 0 {
		text = strings.TrimSpace(text[1:end])
	}
	text = strings.TrimSpace(strings.TrimSuffix(text, ","))
	if text == "" {
		return nil, nil
	}
	var out []value
	for _, part := range split(text) {
		x := textValue(part)
		if x.text == "" && !x.quoted {
			return nil, errors.New("nothing between two commas")
		}
		out = append(out, x)
	}
	return out, nil
}

// closing is the index of the bracket that closes the one text begins with, -1 if
// there is none. [::1]:5000 ends after its bracket: it is an address, no list.
func closing(text string) int {
	if !strings.HasPrefix(text, "[") {
		return -1
	}
	depth := 0
	for i, c := range []byte(text) {
		switch c {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// split cuts at commas outside quotes. A quote counts at the start of an element.
func split(text string) []string {
	var out []string
	from, quote := 0, byte(0)
	for i := range len(text) {
		c := text[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case (c == '"' || c == '\'') && strings.TrimSpace(text[from:i]) == "":
			quote = c
		case c == ',':
			out = append(out, text[from:i])
			from = i + 1
		}
	}
	return append(out, text[from:])
}

// control tells whether a text has characters that no name or path needs.
func control(text string) bool { return strings.ContainsFunc(text, unicode.IsControl) }

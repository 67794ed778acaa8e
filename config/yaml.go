package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// YAML prints the configuration as a file that Load reads back to the same
// values, secrets and unset options left out. With docs, every key carries its
// description.
func (c *Config) YAML(docs bool) []byte {
	note := func(Key) string { return "" }
	if docs {
		note = func(k Key) string { return k.Doc }
	}
	return c.print(note, false)
}

// Annotated prints every key with a comment of the caller's: what YAML leaves out
// is null, and a secret is empty. Load reads it back to the same values but for
// the secret.
func (c *Config) Annotated(comment func(Key) string) []byte { return c.print(comment, true) }

func (c *Config) print(comment func(Key) string, all bool) []byte {
	root := &yaml.Node{Kind: yaml.MappingNode}
	sections := map[string]*yaml.Node{}
	for _, k := range Keys() {
		value := k.Value(c)
		if !all && (value == nil || k.Secret()) {
			continue
		}
		if k.Secret() {
			value = ""
		}
		parent, name := root, k.Name
		if s, rest, ok := strings.Cut(k.Name, "."); ok {
			name = rest
			parent = sections[s]
			if parent == nil {
				parent = &yaml.Node{Kind: yaml.MappingNode}
				sections[s] = parent
				root.Content = append(root.Content, scalar(s), parent)
			}
		}
		node := &yaml.Node{}
		if err := node.Encode(value); err != nil {
			panic("config: " + k.Name + ": " + err.Error()) // a field of a type YAML has no form for
		}
		if node.Kind == yaml.SequenceNode {
			node.Style = yaml.FlowStyle
		}
		node.LineComment = comment(k)
		parent.Content = append(parent.Content, scalar(name), node)
	}
	var out strings.Builder
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		panic("config: " + err.Error())
	}
	return []byte(out.String())
}

func scalar(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }

// Hash identifies the settings that the model's bits depend on: two runs with
// one hash train the same model, on any number of workers.
func (c *Config) Hash() string {
	h := sha256.New()
	for _, k := range Keys() {
		if k.Bits {
			fmt.Fprintf(h, "%s=%v\n", k.Name, k.Value(c))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

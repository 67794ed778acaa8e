package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// YAML prints the configuration as a file that Load reads back to the same
// values, secrets left out. With docs, every key carries its description.
func (c *Config) YAML(docs bool) []byte {
	root := &yaml.Node{Kind: yaml.MappingNode}
	sections := map[string]*yaml.Node{}
	for _, k := range Keys() {
		value := k.Value(c)
		if value == nil || k.Name == "cluster.secret" {
			continue
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
		if docs {
			node.LineComment = k.Doc
		}
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

// FromYAML reads a document that YAML wrote, over the defaults, without looking
// at the environment.
func FromYAML(text []byte) (*Config, error) {
	keys := Keys()
	settings, err := parse(text, keys)
	if err != nil {
		return nil, err
	}
	c := Default()
	byName := map[string]Key{}
	for _, k := range keys {
		byName[k.Name] = k
	}
	for _, s := range settings {
		if err := assign(byName[s.name].value(&c), s.value); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", s.line, s.name, err)
		}
	}
	return &c, nil
}

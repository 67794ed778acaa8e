package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Error is a configuration the program refuses: exit code 42, never retried.
type Error struct {
	Source string // file, "--set", an environment variable or "configuration"
	Err    error
}

func (e *Error) Error() string { return e.Source + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Source says where settings come from.
type Source struct {
	File string   // YAML; empty: none
	Set  []string // key=value, later ones win
	// LookupEnv is os.LookupEnv when nil.
	LookupEnv func(string) (string, bool)
	// Base replaces Default, when a run is resumed from its own config.yaml say.
	Base *Config
}

// Load merges the sources over the defaults and validates the result. All
// errors are *Error.
func Load(s Source) (*Config, error) {
	c := Default()
	if s.Base != nil {
		c = *s.Base
	}
	keys := Keys()
	v := viper.New()
	origin := map[string]string{}
	if s.File != "" {
		if err := readFile(v, s.File, keys, origin); err != nil {
			return nil, &Error{s.File, err}
		}
	}
	lookup := s.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	for _, k := range keys {
		if raw, ok := lookup(k.Env); ok {
			v.Set(k.Name, raw)
			origin[k.Name] = k.Env
		}
	}
	for _, assignment := range s.Set {
		name, raw, ok := strings.Cut(assignment, "=")
		name = strings.TrimSpace(name)
		if !ok {
			return nil, &Error{"--set " + assignment, errors.New("write it as key=value")}
		}
		if !known(name, keys) {
			return nil, &Error{"--set " + assignment, unknownKey(name, keys)}
		}
		var parsed any
		if err := yaml.Unmarshal([]byte(raw), &parsed); err != nil {
			return nil, &Error{"--set " + assignment, fmt.Errorf("value is not YAML: %w", err)}
		}
		v.Set(name, parsed)
		origin[name] = "--set " + assignment
	}
	for _, k := range keys {
		source, given := origin[k.Name]
		if !given {
			continue
		}
		c.gave(k.Name)
		if err := assign(k.value(&c), v.Get(k.Name)); err != nil {
			return nil, &Error{source, fmt.Errorf("%s: %w", k.Name, err)}
		}
	}
	if err := c.Validate(); err != nil {
		return nil, &Error{"configuration", err}
	}
	return &c, nil
}

func known(name string, keys []Key) bool {
	for _, k := range keys {
		if k.Name == name {
			return true
		}
	}
	return false
}

// readFile merges a YAML file into v. Keys are checked on the syntax tree, so
// that an error can name the line.
func readFile(v *viper.Viper, path string, keys []Key, origin map[string]string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		if p, ok := errors.AsType[*os.PathError](err); ok {
			return fmt.Errorf("cannot read it: %w", p.Err)
		}
		return err
	}
	settings, err := parse(text, keys)
	if err != nil {
		return err
	}
	for _, s := range settings {
		v.Set(s.name, s.value)
		origin[s.name] = fmt.Sprintf("%s:%d", path, s.line)
	}
	return nil
}

type setting struct {
	name  string
	value any
	line  int
}

// parse reads the settings of a YAML document.
func parse(text []byte, keys []Key) ([]setting, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("not YAML: %w", err)
	}
	if len(doc.Content) == 0 {
		return nil, nil // an empty file changes nothing
	}
	return flatten(doc.Content[0], "", keys)
}

func flatten(n *yaml.Node, prefix string, keys []Key) ([]setting, error) {
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: expected sections and keys, found %q", n.Line, n.Value)
	}
	var out []setting
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		name := prefix + k.Value
		if first, ok := seen[k.Value]; ok {
			return nil, fmt.Errorf("line %d: %s was already set on line %d", k.Line, name, first)
		}
		seen[k.Value] = k.Line
		switch {
		case known(name, keys):
			var value any
			if err := val.Decode(&value); err != nil {
				return nil, fmt.Errorf("line %d: %s: %w", val.Line, name, err)
			}
			out = append(out, setting{name, value, val.Line})
		case section(name, keys):
			if val.Kind == yaml.ScalarNode && val.Tag == "!!null" {
				continue // a section with nothing in it
			}
			inner, err := flatten(val, name+".", keys)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
		default:
			return nil, fmt.Errorf("line %d: %w", k.Line, unknownKey(name, keys))
		}
	}
	return out, nil
}

func section(name string, keys []Key) bool {
	for _, k := range keys {
		if strings.HasPrefix(k.Name, name+".") {
			return true
		}
	}
	return false
}

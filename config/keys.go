package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/agext/levenshtein"
)

// Key describes one setting.
type Key struct {
	Name string // dotted: train.steps
	Env  string // AGRDIST_TRAIN_STEPS
	Type string // as a person writes it: int, float, bool, text, list of int, ...
	Doc  string
	Bits bool // the model's bits depend on it
	Node bool // each node of a run may have its own value; otherwise all must agree

	index []int
}

// Keys lists every setting in the order of the Config struct.
func Keys() []Key { return walk(reflect.TypeFor[Config](), "", nil) }

func walk(t reflect.Type, prefix string, index []int) []Key {
	var keys []Key
	for f := range t.Fields() {
		if !f.IsExported() {
			continue
		}
		at := append(append([]int(nil), index...), f.Index...)
		name := prefix + f.Tag.Get("mapstructure")
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, walk(f.Type, name+".", at)...)
			continue
		}
		keys = append(keys, Key{
			Name: name, Env: "AGRDIST_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_")),
			Type: typeName(f.Type), Doc: f.Tag.Get("doc"), Bits: f.Tag.Get("bits") == "yes",
			Node: f.Tag.Get("scope") == "node", index: at,
		})
	}
	return keys
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.String:
		return "text"
	case reflect.Float64:
		return "float"
	case reflect.Bool:
		return "bool"
	default: // the ints
		return "int"
	}
}

// value returns the field a key stands for.
func (k Key) value(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(k.index)
}

// Value returns the key's value in c; nil for an unset optional one.
func (k Key) Value(c *Config) any {
	v := k.value(c)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	return v.Interface()
}

// unknownKey words the error for a key that does not exist.
func unknownKey(name string, keys []Key) error {
	best, distance := "", 1<<30
	for _, k := range keys {
		if d := levenshtein.Distance(name, k.Name, nil); d < distance {
			best, distance = k.Name, d
		}
		// The right word in the wrong section is nearer than its letters say.
		if last(k.Name) == last(name) && distance > 2 {
			best, distance = k.Name, 2
		}
	}
	return fmt.Errorf("unknown key %q; did you mean %q? (agrdist config print lists all)", name, best)
}

func last(name string) string { return name[strings.LastIndex(name, ".")+1:] }

package config

import (
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Key describes one setting.
type Key struct {
	Name string // dotted: train.steps
	Env  string // AGRDIST_TRAIN_STEPS
	Type string // as a person writes it: int, float, bool, text, list of int, ...
	Doc  string
	// Choices are the values of a text key that has a fixed set of them.
	Choices []string
	Bits    bool // the model's bits depend on it
	Path    bool // a file or directory: ~/ is the home directory
	Node    bool // each node of a run may have its own value; otherwise all must agree

	host  bool // an address without a port
	index []int
}

// Keys lists every setting in the order of the Config struct.
func Keys() []Key { return slices.Clone(allKeys()) }

var allKeys = sync.OnceValue(func() []Key { return walk(reflect.TypeFor[Config](), "", nil) })

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
		var choices []string
		if list := f.Tag.Get("choices"); list != "" {
			choices = strings.Split(list, "|")
		}
		keys = append(keys, Key{
			Name: name, Env: variable(name),
			Type: typeName(f.Type), Doc: f.Tag.Get("doc"), Choices: choices, Bits: f.Tag.Get("bits") == "yes",
			Path: f.Tag.Get("is") == "path", host: f.Tag.Get("is") == "host", Node: f.Tag.Get("scope") == "node", index: at,
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

// optional tells whether the key may be unset.
func (k Key) optional() bool {
	return reflect.TypeFor[Config]().FieldByIndex(k.index).Type.Kind() == reflect.Pointer
}

// Secret tells whether the key's value is never printed.
func (k Key) Secret() bool { return k.Name == "cluster.secret" }

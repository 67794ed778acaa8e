package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/viper"
)

// Error is a configuration the program refuses: exit code 42, never retried.
type Error struct {
	Source string // file and line, "--set", an environment variable or "configuration"
	Err    error
}

func (e *Error) Error() string { return e.Source + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Source says where settings come from.
type Source struct {
	File  string   // YAML; empty: none
	Set   []string // key=value, later ones win
	Flags []Flag   // flags that stand for a key; they win over Set
	// Environ is os.Environ() when nil.
	Environ []string
	// Base replaces Default, when a run is resumed from its own config.yaml say. Where
	// it is nil, there is no File, and data.name stays the embedded digits, Quickstart
	// does.
	Base *Config
	// Workers is the default of cluster.workers; 0: Default's.
	Workers int
	// Origin, where it is not nil, is told the source of every key that is not a
	// default: FILE:LINE, a variable, --set or a flag.
	Origin map[string]string
}

// Flag is a command line flag that sets a key. Its text is the value: nothing in
// it is a quote.
type Flag struct{ Name, Key, Text string }

// Load merges the sources over the defaults and validates the result: the file,
// then the environment, then --set and flags. It finds all faults of all sources;
// each is an *Error, and several are joined, one a line.
func Load(s Source) (*Config, error) {
	c, err := load(s)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// load returns what could be read even where there are faults.
func load(s Source) (*Config, error) {
	c := Default()
	if s.Base != nil {
		c = *s.Base
	}
	l := loader{c: &c, layers: viper.New(), keys: map[string]Key{}, origin: s.Origin}
	keys := Keys()
	for _, k := range keys {
		l.keys[k.Name] = k
	}
	if l.origin == nil {
		l.origin = map[string]string{}
	}
	if s.File != "" {
		settings, faults := readFile(s.File, keys)
		for _, f := range faults {
			l.fail(at(s.File, f.line), f.err)
		}
		for _, x := range settings {
			l.set(x.name, x.value, at(s.File, x.line))
		}
	}
	if s.Environ == nil {
		s.Environ = os.Environ()
	}
	vars, faults := environment(s.Environ, keys)
	for _, f := range faults {
		l.errs = append(l.errs, f)
	}
	for _, k := range keys {
		if text, ok := vars[k.Env]; ok {
			l.set(k.Name, textValue(text), k.Env)
		}
	}
	for _, assignment := range s.Set {
		name, text, ok := strings.Cut(assignment, "=")
		name = strings.TrimSpace(name)
		source := "--set " + assignment
		switch {
		case !ok || name == "":
			l.fail(source, errors.New("write it as key=value"))
		case known(name, keys):
			l.set(name, textValue(text), source)
		case section(name, keys):
			l.fail(source, fmt.Errorf("%s is a section; set one of its keys, such as %s", name, example(name+".")))
		default:
			l.fail(source, unknownKey(name, false, keys))
		}
	}
	for _, f := range s.Flags {
		l.set(f.Key, value{text: f.Text, quoted: true}, f.Name+" "+f.Text)
	}
	if s.Base == nil && s.File == "" && !l.otherData() {
		c = Quickstart()
	}
	if s.Workers > 0 {
		c.Cluster.Workers = s.Workers
	}
	for _, k := range keys {
		if v, given := l.layers.Get(k.Name).(typed); given {
			k.value(&c).Set(v.field)
			c.gave(k.Name)
			l.origin[k.Name] = v.source
		}
	}
	if len(l.errs) == 0 {
		l.validate()
	}
	return &c, errors.Join(l.errs...)
}

// loader collects settings and faults.
type loader struct {
	c      *Config
	layers *viper.Viper // what each key was set to last
	keys   map[string]Key
	origin map[string]string
	errs   []error
}

// typed is a value of a key's own type, and where it comes from.
type typed struct {
	field  reflect.Value
	source string
}

func (l *loader) fail(source string, err error) { l.errs = append(l.errs, &Error{source, err}) }

// set reads a value by its key's type and puts it over what the key was set to so
// far. A value that another source overrides is checked as well.
func (l *loader) set(name string, v value, source string) {
	k := l.keys[name]
	field := reflect.New(k.value(l.c).Type()).Elem()
	err := assign(field, v)
	if err == nil && k.Path {
		var path string
		if path, err = expandPath(field.String(), os.UserHomeDir); err == nil {
			field.SetString(path)
		}
	}
	if err == nil && k.host {
		field.SetString(bareHost(field.String()))
	}
	if err != nil {
		l.fail(source, fmt.Errorf("%s: %w", name, err))
		return
	}
	l.layers.Set(name, typed{field, source})
}

// otherData reports whether anything gives another data set than the default one.
func (l *loader) otherData() bool {
	v, given := l.layers.Get("data.name").(typed)
	return given && v.field.String() != l.c.Data.Name
}

// validate checks the whole, and names the source of the key that is wrong.
func (l *loader) validate() {
	for _, err := range unjoin(l.c.Validate()) {
		key, _, _ := strings.Cut(err.Error(), " ")
		source, ok := l.origin[strings.TrimSuffix(key, ":")]
		if !ok || strings.HasPrefix(source, "--") {
			source = "configuration" // a flag is in sight; what it says is in the text
		}
		l.fail(source, err)
	}
}

// unjoin takes apart what errors.Join put together.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	var all interface{ Unwrap() []error }
	if errors.As(err, &all) {
		return all.Unwrap()
	}
	return []error{err}
}

// at is a place in a file, as compilers write it.
func at(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// FromYAML reads a document that YAML wrote, over the defaults, without looking
// at the environment.
func FromYAML(text []byte) (*Config, error) {
	keys := Keys()
	byName := map[string]Key{}
	for _, k := range keys {
		byName[k.Name] = k
	}
	settings, faults := parse(text, keys)
	var errs []error
	for _, f := range faults {
		errs = append(errs, f)
	}
	c := Default()
	for _, s := range settings {
		if err := assign(byName[s.name].value(&c), s.value); err != nil {
			errs = append(errs, lineError{s.line, fmt.Errorf("%s: %w", s.name, err)})
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &c, nil
}

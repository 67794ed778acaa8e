package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// setting is one key of a source.
type setting struct {
	name  string
	value value
	line  int
}

// lineError is what is wrong on a line of a document; line 0: with all of it.
type lineError struct {
	line int
	err  error
}

func (f lineError) Error() string {
	if f.line == 0 {
		return f.err.Error()
	}
	return fmt.Sprintf("line %d: %v", f.line, f.err)
}

func (f lineError) Unwrap() error { return f.err }

// maxFile is more than any configuration has.
const maxFile = 1 << 20

// readFile reads a configuration file's settings.
func readFile(path string, keys []Key) ([]setting, []lineError) {
	fail := func(format string, args ...any) ([]setting, []lineError) {
		return nil, []lineError{{0, fmt.Errorf(format, args...)}}
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if file := filepath.Join(path, "config.yaml"); exists(file) {
			return fail("it is a directory; the run's configuration is %s", file)
		}
		return fail("it is a directory; give a YAML file")
	} else if err == nil && info.Mode()&(os.ModeSocket|os.ModeDevice) != 0 && path != os.DevNull {
		return fail("it is not a file; give a YAML file")
	}
	text, err := readAtMost(path, maxFile+1)
	switch {
	case err != nil:
		if p, ok := errors.AsType[*os.PathError](err); ok {
			err = p.Err
		}
		return fail("cannot read it: %w", err)
	case len(text) > maxFile:
		return fail("it has more than %d MiB; a configuration is a short YAML file", maxFile>>20)
	}
	return parse(text, keys)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func readAtMost(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	return io.ReadAll(io.LimitReader(f, n))
}

// parse reads the settings of a YAML document and finds all that is wrong with
// its keys.
func parse(text []byte, keys []Key) ([]setting, []lineError) {
	whole := func(line int, format string, args ...any) ([]setting, []lineError) {
		return nil, []lineError{{line, fmt.Errorf(format, args...)}}
	}
	utf16 := bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff"))
	if !utf16 && (!utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0) {
		return whole(0, "it is not a text in UTF-8; a configuration is a YAML file")
	}
	if json.Valid(text) {
		text = bytes.ReplaceAll(text, []byte("\t"), []byte(" ")) // JSON is YAML, but for tabs
	}
	var root *yaml.Node
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, why := syntax(text, err)
			return whole(line, "%w", why)
		}
		n := doc.Content[0]
		switch {
		case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
			// nothing between two lines of ---
		case root != nil:
			return whole(n.Line, "a second document begins here; a configuration is one, so take out the line --- and merge them")
		default:
			root = n
		}
	}
	if root == nil {
		return nil, nil // an empty file changes nothing
	}
	if line := tomlLine(text); root.Kind != yaml.MappingNode && line > 0 {
		_, why := syntax(text, errors.New(""))
		return whole(line, "%w", why)
	}
	r := reader{keys: keys, seen: map[string]int{}, used: map[*yaml.Node]bool{}}
	r.aliases(root)
	r.section(root, "")
	return r.out, r.faults
}

// line is how yaml's errors name one.
var line = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax words an error of the YAML parser.
func syntax(text []byte, err error) (int, error) {
	m := line.FindStringSubmatch(err.Error())
	at := 0
	if m != nil {
		at, _ = strconv.Atoi(m[1])
	}
	if l := tomlLine(text); l > 0 {
		return l, errors.New("this is TOML or INI, not YAML; write `train:` and below it, indented, `steps: 60`")
	}
	lines := strings.Split(string(text), "\n")
	for i := max(0, at-2); i < min(len(lines), at+1); i++ {
		if indent := lines[i][:len(lines[i])-len(strings.TrimLeft(lines[i], " \t"))]; strings.Contains(indent, "\t") {
			return i + 1, errors.New("not YAML: it is indented with a tab; YAML allows only spaces")
		}
		if address.MatchString(lines[i]) {
			return i + 1, errors.New(`not YAML: quote an address that begins with a bracket, as "[::1]:5000"`)
		}
	}
	why := strings.TrimPrefix(err.Error(), "yaml: ")
	if m != nil {
		why = strings.TrimPrefix(err.Error(), m[0])
	}
	return at, fmt.Errorf("not YAML: %s", why)
}

var (
	address     = regexp.MustCompile(`[:,\-\[]\s*\[[0-9a-fA-F:.%\w]*\]:\d`)
	tomlSection = regexp.MustCompile(`^\s*\[\[?[\w.]+\]\]?\s*(#.*)?$`)
	tomlSetting = regexp.MustCompile(`^\s*[\w.]+\s*=\s*\S`)
)

// tomlLine is the first line that looks like TOML's, 0 if there is none or if a
// line above it is YAML's.
func tomlLine(text []byte) int {
	n := 0
	for l := range bytes.Lines(text) {
		n++
		l = bytes.TrimRight(l, "\r\n")
		if s := bytes.TrimSpace(l); len(s) == 0 || s[0] == '#' || s[0] == ';' {
			continue
		}
		if tomlSection.Match(l) || tomlSetting.Match(l) {
			return n
		}
		return 0
	}
	return 0
}

package config

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// assign sets a field to what a value means for the field's type, and to nothing
// else: text stays as it was written, an integer is decimal, 1.5 is none.
func assign(f reflect.Value, v value) error {
	switch f.Kind() {
	case reflect.Pointer: // an optional setting
		if v.unset() {
			f.SetZero()
			return nil
		}
		p := reflect.New(f.Type().Elem())
		if err := assign(p.Elem(), v); err != nil {
			return err
		}
		f.Set(p)
		return nil
	case reflect.Slice:
		return assignList(f, v)
	default: // a single value
	}
	if v.list != nil {
		return fmt.Errorf("a list is not %s", article(f.Type()))
	}
	if f.Kind() == reflect.String {
		if control(v.text) {
			return fmt.Errorf("%q has a control character", v.text)
		}
		f.SetString(v.text)
		return nil
	}
	text := strings.TrimSpace(v.text)
	if v.unset() {
		return fmt.Errorf("no value; give %s, or leave the key out for the default", article(f.Type()))
	}
	switch f.Kind() {
	case reflect.Bool:
		b, ok := parseBool(text)
		if !ok {
			return fmt.Errorf("%q is not true or false", text)
		}
		f.SetBool(b)
	case reflect.Int, reflect.Int64:
		i, err := parseInteger(text)
		if err != nil {
			return err
		}
		if !i.IsInt64() {
			return fmt.Errorf("%s is too large; the limit is %d", text, math.MaxInt64)
		}
		f.SetInt(i.Int64())
	case reflect.Uint64:
		i, err := parseInteger(text)
		if err != nil {
			return err
		}
		if !i.IsUint64() {
			return fmt.Errorf("%s is out of range; it must be 0 to %d", text, uint64(math.MaxUint64))
		}
		f.SetUint(i.Uint64())
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if !decimal.MatchString(text) {
			return fmt.Errorf("%q is not a number", text)
		}
		if err != nil {
			return fmt.Errorf("%s is out of range for a number", text)
		}
		f.SetFloat(x)
	default:
		panic("config: field of kind " + f.Kind().String())
	}
	return nil
}

func assignList(f reflect.Value, v value) error {
	items, err := v.items()
	if err != nil {
		return err
	}
	if len(items) == 0 {
		f.SetZero() // an empty list is no list
		return nil
	}
	out := reflect.MakeSlice(f.Type(), len(items), len(items))
	for i, item := range items {
		if err := assign(out.Index(i), item); err != nil {
			return fmt.Errorf("element %d: %w", i+1, err)
		}
	}
	f.Set(out)
	return nil
}

// decimal is a number in decimal notation: no hexadecimal, no underscores, no
// YAML 1.1 base 60, no infinity.
var decimal = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?$`)

// parseInteger reads an integer in decimal notation; leading zeros count for
// nothing. 1e6 is one as well, since it is a whole number.
func parseInteger(text string) (*big.Int, error) {
	wrong := fmt.Errorf("%q is not an integer", text)
	if !decimal.MatchString(text) {
		if _, err := strconv.ParseInt(text, 0, 64); err == nil {
			return nil, fmt.Errorf("%w in decimal digits", wrong)
		}
		return nil, wrong
	}
	digits := strings.TrimPrefix(text, "+")
	if strings.Trim(digits, "-0123456789") == "" {
		if i, ok := new(big.Int).SetString(digits, 10); ok {
			return i, nil
		}
		return nil, wrong
	}
	if x, err := strconv.ParseFloat(text, 64); err != nil || math.Abs(x) >= 1<<64 {
		return nil, fmt.Errorf("%s is too large for an integer", text)
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok || !r.IsInt() {
		return nil, wrong
	}
	return r.Num(), nil
}

// parseBool reads the words of YAML 1.1 and 1.2, and 0 and 1.
func parseBool(text string) (b, ok bool) {
	text = strings.ToLower(text)
	switch {
	case slices.Contains([]string{"true", "yes", "on", "y", "t", "1"}, text):
		return true, true
	case slices.Contains([]string{"false", "no", "off", "n", "f", "0"}, text):
		return false, true
	}
	return false, false
}

// article is a type in words, for "give %s".
func article(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return article(t.Elem())
	case reflect.Slice:
		return "a list, such as [32, 64]"
	case reflect.String:
		return "a text"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	default:
		return "an integer"
	}
}

// bareHost takes the brackets off an IPv6 address, which only a port needs.
func bareHost(host string) string {
	if host == "localhost" {
		return "127.0.0.1"
	}
	inner, found := strings.CutPrefix(host, "[")
	if inner, end := strings.CutSuffix(inner, "]"); found && end && net.ParseIP(inner) != nil {
		return inner
	}
	return host
}

var errNoHome = errors.New("~ stands for your home directory, and HOME is not set; write the whole path")

// expandPath replaces ~/ by the home directory, and refuses what only a shell
// understands: a directory called ~ or $HOME is never meant.
func expandPath(path string, home func() (string, error)) (string, error) {
	switch {
	case path == "~":
		return "", errors.New(`"~" is your home directory (and in YAML, nothing); name a directory in it, such as ~/runs/a`)
	case strings.HasPrefix(path, "~/"):
		dir, err := home()
		if err != nil || dir == "" {
			return "", errNoHome
		}
		return strings.TrimSuffix(dir, "/") + path[1:], nil
	case strings.HasPrefix(path, "~"):
		return "", fmt.Errorf("%q: only ~/ is understood, for your home directory; write the whole path (or ./%s, if it is called that)", path, path)
	case shellVariable.MatchString(path):
		return "", fmt.Errorf("%q: variables are not replaced here; write the value of %s", path, shellVariable.FindString(path))
	}
	return path, nil
}

var shellVariable = regexp.MustCompile(`\$(\w+|\{[^}]*\}?|\([^)]*\)?)`)

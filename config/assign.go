package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// assign sets a field from a YAML or textual value without guessing: 1.5 is no
// int, "yes" is no bool. A nil value leaves the field as it is, except that it
// unsets an optional one.
func assign(f reflect.Value, raw any) error {
	if f.Kind() == reflect.Pointer {
		if raw == nil {
			f.SetZero()
			return nil
		}
		p := reflect.New(f.Type().Elem())
		if err := assign(p.Elem(), raw); err != nil {
			return err
		}
		f.Set(p)
		return nil
	}
	if raw == nil {
		return nil
	}
	if f.Kind() == reflect.Slice {
		return assignList(f, raw)
	}
	text := strings.TrimSpace(scalarText(raw))
	wrong := func() error { return fmt.Errorf("%q is no %s", text, typeName(f.Type())) }
	switch f.Kind() {
	case reflect.String:
		f.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return wrong()
		}
		f.SetBool(b)
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return wrong()
		}
		f.SetInt(i)
	case reflect.Uint64:
		u, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return wrong()
		}
		f.SetUint(u)
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return wrong()
		}
		f.SetFloat(x)
	default:
		panic("config: field of kind " + f.Kind().String())
	}
	return nil
}

// assignList accepts a YAML list, or one text with commas and optional brackets
// as environment variables have it.
func assignList(f reflect.Value, raw any) error {
	var items []any
	switch x := raw.(type) {
	case []any:
		items = x
	default:
		text := strings.Trim(strings.TrimSpace(scalarText(raw)), "[]")
		if text != "" {
			for part := range strings.SplitSeq(text, ",") {
				items = append(items, part)
			}
		}
	}
	if len(items) == 0 {
		f.SetZero() // an empty list is no list
		return nil
	}
	out := reflect.MakeSlice(f.Type(), len(items), len(items))
	for i, item := range items {
		if err := assign(out.Index(i), item); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	f.Set(out)
	return nil
}

// scalarText prints a decoded YAML scalar the way it was written. A float that
// is a whole number is an int to a person (1e6).
func scalarText(raw any) string {
	if x, ok := raw.(float64); ok {
		if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
			return strconv.FormatInt(int64(x), 10)
		}
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	return fmt.Sprint(raw)
}

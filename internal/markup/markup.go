package markup

import (
	"fmt"
	"html"
	"maps"
	"slices"
	"strings"
)

// HTML is markup that needs no escaping.
type HTML string

// Format is fmt.Sprintf for markup: format is HTML, with a %s or %v for each value. Values
// that are not HTML are escaped, for the text of an element or an attribute in double
// quotes.
func Format(format string, values ...any) HTML {
	safe := make([]any, len(values))
	for i, v := range values {
		if h, ok := v.(HTML); ok {
			safe[i] = string(h)
			continue
		}
		safe[i] = html.EscapeString(fmt.Sprint(v))
	}
	return HTML(fmt.Sprintf(format, safe...))
}

// When is Format where yes is true, and nothing where it is not.
func When(yes bool, format string, values ...any) HTML {
	if !yes {
		return ""
	}
	return Format(format, values...)
}

// Each is the markup of every element of a list, one behind the other.
func Each[T any](list []T, of func(T) HTML) HTML {
	var b strings.Builder
	for _, v := range list {
		b.WriteString(string(of(v)))
	}
	return HTML(b.String())
}

// Fill puts a value in the place of each {{name}} of a page. It fails where the page names a
// value that is not there, and where a value has no place.
func Fill(page string, values map[string]HTML) (HTML, error) {
	var b strings.Builder
	left := maps.Clone(values)
	for {
		before, rest, found := strings.Cut(page, "{{")
		b.WriteString(before)
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}}")
		value, known := values[name]
		if !closed || !known {
			return "", fmt.Errorf("markup: the page names %q, which has no value", name)
		}
		b.WriteString(string(value))
		delete(left, name)
		page = after
	}
	if len(left) > 0 {
		return "", fmt.Errorf("markup: the page has no place for %s", strings.Join(slices.Sorted(maps.Keys(left)), ", "))
	}
	return HTML(b.String()), nil
}

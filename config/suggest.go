package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// unknownKey words the error for a key that does not exist. above tells that there
// are keys below it: it was meant as a section.
func unknownKey(name string, above bool, keys []Key) error {
	best, note := suggest(name, above, keys)
	const all = "(agrdist config print lists all)"
	switch {
	case strings.ContainsFunc(name, odd):
		return fmt.Errorf("unknown key %q: it has a character that only looks like a space, a hyphen or a quote; type it again %s", name, all)
	case best == "":
		return fmt.Errorf("unknown key %q %s", name, all)
	case note != "":
		return fmt.Errorf("unknown key %q; did you mean %q? %s", name, best, note)
	}
	return fmt.Errorf("unknown key %q; did you mean %q? %s", name, best, all)
}

// odd tells a character that word processors and web pages put for another one.
func odd(c rune) bool {
	return slices.Contains([]rune{'\u00a0', '\u2007', '\u202f', '\u2009', '\u200b', '\ufeff', '\u2010', '\u2011', '\u2013', '\u2014', '\u2018', '\u2019', '\u201c', '\u201d'}, c)
}

// Suggest finds the key that a wrong name means, such as learning_rate, with what a
// person who knows it from elsewhere has to know. Empty: nothing is near.
func Suggest(name string) (key, note string) { return suggest(name, false, allKeys()) }

// suggest finds the key, or the section, that a wrong name means: first by what
// other trainers call it, then by its letters. Empty: nothing is near.
func suggest(name string, above bool, keys []Key) (best, note string) {
	plain := snake(name)
	var names []string
	for _, k := range keys {
		if k.Name == plain { // only its case or its hyphens are wrong
			return k.Name, ""
		}
		if s, _, ok := strings.Cut(k.Name, "."); ok && above && !slices.Contains(names, s) {
			names = append(names, s)
		}
		if !above {
			names = append(names, k.Name)
		}
	}
	if above {
		if slices.Contains(names, plain) {
			return plain, ""
		}
		if s, ok := foreignSections[plain]; ok {
			return s, sectionNotes[plain]
		}
	} else {
		section, word, _ := strings.Cut(plain, ".")
		if f, ok := foreign[section]; ok && slices.Contains([]string{"enabled", "enable", "on"}, word) { // agr.enabled
			return f.key, f.note
		}
		if f, ok := foreign[last(plain)]; ok {
			return f.key, f.note
		}
		for _, k := range keys { // the right word in the wrong section
			if last(k.Name) == last(plain) {
				return k.Name, ""
			}
		}
	}
	distance := 1 << 30
	for _, n := range names {
		d := levenshtein.Distance(plain, n, nil)
		if !strings.Contains(plain, ".") {
			d = min(d, levenshtein.Distance(plain, last(n), nil))
		}
		if d < distance {
			best, distance = n, d
		}
	}
	if distance > max(2, len(last(best))/2) {
		return "", ""
	}
	return best, ""
}

var camel = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// snake writes a name as our keys are written: learningRate, Learning-Rate and
// LEARNING_RATE alike.
func snake(name string) string {
	name = camel.ReplaceAllString(strings.TrimSpace(name), "${1}_${2}")
	return strings.ToLower(strings.ReplaceAll(name, "-", "_"))
}

func last(name string) string { return name[strings.LastIndex(name, ".")+1:] }

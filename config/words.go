package config

import (
	"regexp"
	"strings"
)

var dotted = regexp.MustCompile(`[a-z]+(?:\.[a-z_]+)+`)

// UnknownKeys lists the words of a text that look like keys, section.name, and are
// none: what an error or a help text calls a key must be one.
func UnknownKeys(text string) []string {
	keys := allKeys()
	var out []string
	for _, at := range dotted.FindAllStringIndex(text, -1) {
		word := text[at[0]:at[1]]
		if at[0] > 0 && strings.ContainsAny(text[at[0]-1:at[0]], "/-_.") || at[1] < len(text) && strings.ContainsAny(text[at[1]:at[1]+1], "/-(*") {
			continue // part of a path, a file's name, a call
		}
		section0, rest, _ := strings.Cut(word, ".")
		if section(section0, keys) && !known(word, keys) && !files[rest] {
			out = append(out, word)
		}
	}
	return out
}

// files are extensions: model.safetensors is no key.
var files = map[string]bool{"safetensors": true, "json": true, "yaml": true, "png": true, "go": true, "proto": true, "log": true, "bin": true, "py": true, "md": true, "txt": true, "csv": true, "pkl": true}

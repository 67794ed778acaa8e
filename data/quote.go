package data

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// quoted is a file's name for messages and logs: as it is, or quoted where it is
// not UTF-8 or has characters that do not print (names are bytes, and messages
// travel as text).
func quoted(name string) string {
	bad := strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
	if bad < 0 && utf8.ValidString(name) {
		return name
	}
	return strconv.Quote(name)
}

// plain is a system error without its path, which the message names already.
func plain(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

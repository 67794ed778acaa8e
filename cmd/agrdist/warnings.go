package main

import (
	"bytes"
	"io"
	"regexp"
)

// warnings passes on what a person should see of the workers' output: records of
// level WARN and above without their time and level, and whatever is no record at
// all (a panic). Everything is in the log files.
type warnings struct{ out io.Writer }

var (
	record = regexp.MustCompile(`^(\[[^]]*\] )?time=\S+ level=(\w+) (.*)$`)
	other  = regexp.MustCompile(`^(\[[^]]*\] )?(agrdist: .*)?$`) // a worker's last line comes with its exit
)

// Write takes whole lines, several at a time.
func (w *warnings) Write(p []byte) (int, error) {
	var keep bytes.Buffer
	for line := range bytes.Lines(p) {
		text := bytes.TrimRight(line, "\n")
		if m := record.FindSubmatch(text); m != nil {
			if level := string(m[2]); level != "INFO" && level != "DEBUG" {
				keep.Write(m[1])
				keep.Write(m[3])
				keep.WriteByte('\n')
			}
			continue
		}
		if !other.Match(text) {
			keep.Write(text)
			keep.WriteByte('\n')
		}
	}
	if keep.Len() == 0 {
		return len(p), nil
	}
	if _, err := w.out.Write(keep.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Command testreport reads `go test -json` on its standard input and prints what
// a person wants to know of it: a line a package, the output of what failed, the
// reasons of what was skipped, and the counts.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Elapsed    float64
	Output     string
}

func main() {
	ok, err := report(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

// report prints the summary and tells whether everything passed.
func report(in io.Reader, out io.Writer) (bool, error) {
	output := map[string]*strings.Builder{}
	var passed, failed, skipped, packages int
	var skips []string
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(out, "%s", line) // a tool's own words
				continue
			}
			key := e.Package + e.ImportPath + " " + e.Test
			switch e.Action {
			case "output", "build-output":
				if output[key] == nil {
					output[key] = &strings.Builder{}
				}
				_, _ = output[key].WriteString(e.Output) // a strings.Builder does not fail
			case "fail", "build-fail":
				failed++
				fmt.Fprintf(out, "FAIL  %s\n%s", key, text(output[key]))
			case "pass":
				if e.Test != "" {
					passed++
				} else {
					packages++
					fmt.Fprintf(out, "ok    %s %.1fs\n", e.Package, e.Elapsed)
				}
			case "skip":
				if e.Test != "" {
					skipped++
					skips = append(skips, key+": "+reason(text(output[key])))
				}
			}
			if e.Action != "output" && e.Action != "build-output" {
				delete(output, key)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
	}
	sort.Strings(skips)
	for _, s := range skips {
		fmt.Fprintln(out, "skip  "+s)
	}
	fmt.Fprintf(out, "%d packages\n%d passed, %d failed, %d skipped\n", packages, passed, failed, skipped)
	return failed == 0 && passed > 0, nil
}

func text(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	return b.String()
}

// reason finds what t.Skip said between the lines of the framework.
func reason(output string) string {
	for line := range strings.SplitSeq(output, "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return line
		}
	}
	return "no reason given"
}

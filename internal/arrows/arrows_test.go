package arrows

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/agrdist/agrdist"
	root   = "../.."
)

// house is what the packages of a module import. Packages of the module are named by
// their directory, all others by their import path.
type house map[string]*imports

type imports struct {
	code  map[string]string // imported path -> a file that imports it
	tests map[string]string // as code, of the test files
}

// survey reads the imports of every Go file below dir, whatever its build tags.
// Directories with a go.mod of their own are other modules.
func survey(t *testing.T, dir string) house {
	t.Helper()
	h := house{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			_, err := os.Stat(filepath.Join(name, "go.mod"))
			other := err == nil && name != dir
			if base := d.Name(); other || base == "testdata" || strings.HasPrefix(base, ".") && name != dir || strings.HasPrefix(base, "_") {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(name, ".go"):
			return nil
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		var paths []string
		for _, spec := range file.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			paths = append(paths, strings.TrimPrefix(p, module+"/"))
		}
		h.add(filepath.ToSlash(rel), paths...)
		return nil
	})
	require.NoError(t, err)
	return h
}

// add records what a file imports.
func (h house) add(file string, paths ...string) {
	pkg := path.Dir(file)
	if h[pkg] == nil {
		h[pkg] = &imports{code: map[string]string{}, tests: map[string]string{}}
	}
	to := h[pkg].code
	if strings.HasSuffix(file, "_test.go") {
		to = h[pkg].tests
	}
	for _, p := range paths {
		to[p] = file
	}
}

// checkTable compares the code with the table.
func checkTable(h house, table map[string]string) (faults []string) {
	for _, pkg := range slices.Sorted(maps.Keys(h)) {
		line, listed := table[pkg]
		if !listed {
			faults = append(faults, fmt.Sprintf("package %s is not in the table: add a line for it to internal/arrows/table_test.go "+
				"with the packages it may import, and draw it in docs/design.md (The house)", pkg))
			continue
		}
		may := strings.Fields(line)
		for _, to := range slices.Sorted(maps.Keys(h[pkg].code)) {
			if h[to] != nil && !slices.Contains(may, to) {
				faults = append(faults, fmt.Sprintf("%s imports %s, which the line of %s in internal/arrows/table_test.go does not allow: "+
					"turn the arrow round (declare an interface in %[3]s, implement it in %[2]s), or allow it there if it points down", h[pkg].code[to], to, pkg))
			}
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(table)) {
		if h[pkg] == nil {
			faults = append(faults, fmt.Sprintf("the table lists %s, which is not there: remove its line from internal/arrows/table_test.go "+
				"and from docs/design.md", pkg))
			continue
		}
		for to := range strings.FieldsSeq(table[pkg]) {
			if h[to] == nil {
				faults = append(faults, fmt.Sprintf("the table allows %s to import %s, which is not there", pkg, to))
			} else if h[pkg].code[to] == "" {
				faults = append(faults, fmt.Sprintf("the table allows %s to import %s, and it does not: take it out", pkg, to))
			}
		}
	}
	return faults
}

// checkBans follows the imports of the code from every package that a ban binds.
func checkBans(h house, bans []ban) (faults []string) {
	for _, b := range bans {
		for _, pkg := range slices.Sorted(maps.Keys(h)) {
			if len(b.from) > 0 && !matches(pkg, b.from) || matches(pkg, b.except) {
				continue
			}
			if chain := h.reach(pkg, b, map[string]bool{}); chain != nil {
				faults = append(faults, fmt.Sprintf("%s reaches %s (%s): %s", pkg, chain[len(chain)-1], strings.Join(chain, " -> "), b.why))
			}
			for to, file := range h[pkg].tests {
				if b.tests && matches(to, b.to) {
					faults = append(faults, fmt.Sprintf("%s imports %s: %s", file, to, b.why))
				}
			}
		}
	}
	return faults
}

// reach returns a chain of imports from pkg to a path that b bans, or nil.
func (h house) reach(pkg string, b ban, seen map[string]bool) []string {
	seen[pkg] = true
	paths := slices.Sorted(maps.Keys(h[pkg].code))
	for _, p := range paths {
		if matches(p, b.to) {
			return []string{pkg, p}
		}
	}
	for _, p := range paths {
		if h[p] != nil && !seen[p] && !b.direct {
			if chain := h.reach(p, b, seen); chain != nil {
				return append([]string{pkg}, chain...)
			}
		}
	}
	return nil
}

// matches tells whether a path is among patterns; "x/..." is x and all below it.
func matches(p string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		above, tree := strings.CutSuffix(pattern, "/...")
		return p == above || tree && strings.HasPrefix(p, above+"/")
	})
}

// drawn returns the package that the drawing shows for pkg: internal packages of a
// package are part of it, and the tools in hack are not drawn.
func drawn(pkg string) string {
	if strings.HasPrefix(pkg, "hack/") {
		return ""
	}
	above, _, _ := strings.Cut(pkg, "/internal/")
	return above
}

// drawing returns the floors of the house from the text of docs/design.md: for each
// package the number of its line. A line draws the packages before the first two
// spaces, with one space between; a line that begins with a space goes on with the text
// of the one above.
func drawing(text string) (map[string]int, error) {
	_, text, ok := strings.Cut(text, "\n## The house\n")
	if !ok {
		return nil, fmt.Errorf("no section \"The house\"")
	}
	_, text, _ = strings.Cut(text, "```\n")
	text, _, _ = strings.Cut(text, "```\n")
	floors := map[string]int{}
	for n, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == ' ' {
			continue
		}
		names, _, _ := strings.Cut(line, "  ")
		for pkg := range strings.FieldsSeq(names) {
			if _, twice := floors[pkg]; twice {
				return nil, fmt.Errorf("%s is drawn twice", pkg)
			}
			floors[pkg] = n
		}
	}
	return floors, nil
}

// checkDrawing compares the drawing with the table: each package of the table is in
// it, and no other, and every arrow of the table points down.
func checkDrawing(floors map[string]int, table map[string]string) (faults []string) {
	shown := map[string]bool{}
	for _, pkg := range slices.Sorted(maps.Keys(table)) {
		from := drawn(pkg)
		if from == "" {
			continue
		}
		shown[from] = true
		floor, ok := floors[from]
		if !ok {
			faults = append(faults, fmt.Sprintf("docs/design.md (The house) does not draw %s: give it a line above all that it imports", from))
			continue
		}
		for to := range strings.FieldsSeq(table[pkg]) {
			if below, ok := floors[drawn(to)]; ok && below <= floor && drawn(to) != from {
				faults = append(faults, fmt.Sprintf("in docs/design.md (The house) %s does not stand below %s, which imports it", drawn(to), from))
			}
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(floors)) {
		if !shown[pkg] {
			faults = append(faults, fmt.Sprintf("docs/design.md (The house) draws %s, which internal/arrows/table_test.go does not list", pkg))
		}
	}
	return faults
}

func none(t *testing.T, faults []string) {
	t.Helper()
	for _, f := range faults {
		t.Error(f)
	}
}

func TestCodeFollowsTheTable(t *testing.T) { none(t, checkTable(survey(t, root), allowed)) }

func TestBansHold(t *testing.T) { none(t, checkBans(survey(t, root), bans)) }

func TestDrawingShowsTheTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/design.md"))
	require.NoError(t, err)
	floors, err := drawing(string(text))
	require.NoError(t, err)
	none(t, checkDrawing(floors, allowed))
}

// Every banned package that is named by a path of ours is one: a renamed package must
// not leave a ban that binds nothing.
func TestBansNamePackages(t *testing.T) {
	h := survey(t, root)
	for _, b := range bans {
		for _, pattern := range slices.Concat(b.from, b.except, b.to) {
			host, _, _ := strings.Cut(pattern, "/")
			if strings.Contains(host, ".") || slices.Contains(standard, pattern) {
				continue
			}
			found := false
			for pkg := range h {
				found = found || matches(pkg, []string{pattern})
			}
			require.True(t, found, "a ban names %q, which is no package of this module", pattern)
		}
	}
}

func TestChecksFindFaults(t *testing.T) {
	h := house{}
	h.add("a/a.go", "b")
	h.add("b/b.go", "example.org/net/http")
	h.add("b/b_test.go", "example.org/mock")
	table := map[string]string{"a": "b", "b": ""}
	require.Empty(t, checkTable(h, table))

	h.add("b/other.go", "a")
	require.Equal(t, []string{"b/other.go imports a, which the line of b in internal/arrows/table_test.go does not allow: " +
		"turn the arrow round (declare an interface in b, implement it in a), or allow it there if it points down"}, checkTable(h, table))
	delete(h["b"].code, "a")

	require.Len(t, checkTable(h, map[string]string{"a": "b"}), 1)                     // b is missing
	require.Len(t, checkTable(h, map[string]string{"a": "b", "b": "", "c": ""}), 1)   // c is not there
	require.Len(t, checkTable(h, map[string]string{"a": "b", "b": "a"}), 1)           // allowed for nothing
	require.Len(t, checkTable(h, map[string]string{"a": "b", "b": "example.org"}), 1) // no package of ours

	why := "the reason"
	require.Equal(t, []string{"a reaches example.org/net/http (a -> b -> example.org/net/http): the reason"},
		checkBans(h, []ban{{from: []string{"a"}, to: []string{"example.org/net/..."}, why: why}}))
	require.Len(t, checkBans(h, []ban{{to: []string{"example.org/net/..."}, why: why}}), 2)
	require.Len(t, checkBans(h, []ban{{to: []string{"example.org/net/..."}, except: []string{"a"}, why: why}}), 1)
	require.Len(t, checkBans(h, []ban{{to: []string{"example.org/net/..."}, direct: true, why: why}}), 1)
	require.Empty(t, checkBans(h, []ban{{to: []string{"example.org/mock"}, why: why}}))
	require.Equal(t, []string{"b/b_test.go imports example.org/mock: the reason"},
		checkBans(h, []ban{{to: []string{"example.org/mock"}, tests: true, why: why}}))

	draw := func(lines ...string) []string {
		floors, err := drawing("# Design\n\n## The house\nWords.\n```\n" + strings.Join(lines, "\n") + "\n```\n")
		require.NoError(t, err)
		return checkDrawing(floors, table)
	}
	require.Empty(t, draw("a   the top", "    of all", "b   the ground"))
	require.Equal(t, []string{"in docs/design.md (The house) b does not stand below a, which imports it"}, draw("a b   together"))
	require.Len(t, draw("b   up", "a   down"), 1)
	require.Len(t, draw("a   alone"), 1)
	require.Len(t, draw("a   x", "b   y", "c   z"), 1)
	_, err := drawing("\n## The house\n```\na\na\n```\n")
	require.ErrorContains(t, err, "a is drawn twice")
}

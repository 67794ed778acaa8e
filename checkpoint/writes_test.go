package checkpoint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The functions of package os that change nothing.
var harmless = map[string]bool{
	"Getpid": true, "Hostname": true, "File": true, "ReadFile": true, "Open": true, "Stat": true, "Lstat": true, "OpenRoot": true, "Root": true,
}

// What is promised about crashes is tested through package vfs, so whatever writes goes
// through it. The one exception is the lock, which promises nothing about its contents.
func TestEveryWriteGoesThroughTheFileSystem(t *testing.T) {
	seen := 0
	for _, dir := range []string{".", "../internal/sealed"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") || filepath.Base(file) == "runlock.go" {
				continue
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, file, nil, 0)
			require.NoError(t, err)
			seen++
			for _, name := range direct(f) {
				t.Errorf("%s uses %s: write through vfs.FS", file, name)
			}
		}
	}
	require.Greater(t, seen, 10)
}

// direct returns what a file uses of packages that write to the disk.
func direct(f *ast.File) []string {
	named := map[string]string{}
	for _, imp := range f.Imports {
		path := strings.Trim(imp.Path.Value, `"`)
		switch path {
		case "os", "syscall", "golang.org/x/sys/unix", "github.com/google/renameio/v2", "io/ioutil":
			name := filepath.Base(strings.TrimSuffix(path, "/v2"))
			if imp.Name != nil {
				name = imp.Name.Name
			}
			named[name] = path
		}
	}
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok || named[x.Name] == "" || named[x.Name] == "os" && harmless[sel.Sel.Name] {
			return true
		}
		if named[x.Name] == "syscall" && (strings.HasPrefix(sel.Sel.Name, "E") || strings.HasPrefix(sel.Sel.Name, "Statfs")) {
			return true // the names of errors, and the room on a volume
		}
		out = append(out, x.Name+"."+sel.Sel.Name)
		return true
	})
	return out
}

func TestDirectWritesAreFound(t *testing.T) {
	const src = `package p
import ("os"; fast "github.com/google/renameio/v2"; "syscall")
var _, _, _, _ = os.WriteFile, fast.WriteFile, syscall.ENOSPC, os.Getpid
`
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", src, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"os.WriteFile", "fast.WriteFile"}, direct(f))
}

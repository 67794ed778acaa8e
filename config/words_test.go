package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnknownKeys(t *testing.T) {
	require.Equal(t, []string{"sample.final_alpha", "data.split"}, UnknownKeys("sample.final_alpha is 3; data.split, train.steps and model.safetensors are fine"))
	require.Empty(t, UnknownKeys("see docs/train.md, cluster.Config, train.go, sample.every."))
}

// Every word in a text of the program or its documents that looks like a key is
// one: an error that tells people to set data.split when there is no such key helps
// nobody.
func TestTextsNameKeysThatExist(t *testing.T) {
	var goFiles, documents int
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir() && (name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") && name != ".."):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasSuffix(name, ".pb.go"):
			goFiles++
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
					text, err := strconv.Unquote(s.Value)
					require.NoError(t, err)
					for _, word := range UnknownKeys(text) {
						t.Errorf("%s: %q names %s, which is no key", path, text, word)
					}
				}
				return true
			})
		case strings.HasSuffix(name, ".md") && name != "CHANGELOG.md":
			documents++
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, word := range UnknownKeys(string(text)) {
				t.Errorf("%s names %s, which is no key", path, word)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, goFiles, 300)
	require.Greater(t, documents, 15)
}

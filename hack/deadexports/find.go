package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// export is an exported identifier: "package.Name" or "package.Type.Method", with the
// package's directory, and where it is declared.
type export struct{ name, at string }

// listed is what go list says of a package.
type listed struct {
	Dir, ImportPath, Export               string
	GoFiles, IgnoredGoFiles               []string
	TestGoFiles, XTestGoFiles, OtherFiles []string
	Standard                              bool
	Module                                *struct{ Main bool }
}

func (p listed) ours() bool { return p.Module != nil && p.Module.Main }

// survey gathers declarations and uses, package by package.
type survey struct {
	root     string
	fset     *token.FileSet
	packages map[string]*types.Package  // ours, checked from source
	others   types.Importer             // all others, from export data
	used     map[string]bool            // keys of objects
	mentions map[string]map[string]bool // name or path.Name -> packages of files read without types
	declared map[string]types.Object
	ifaces   []*types.Interface

	generated map[string]bool // files
}

// find returns the dead exports of the module in dir, sorted.
func find(dir string) ([]export, error) {
	list, err := goList(dir)
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for _, p := range list {
		exports[p.ImportPath] = p.Export
	}
	s := &survey{
		root: dir, fset: token.NewFileSet(), packages: map[string]*types.Package{}, used: map[string]bool{},
		mentions: map[string]map[string]bool{}, declared: map[string]types.Object{}, generated: map[string]bool{},
	}
	s.others = importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, p := range list { // each after what it imports
		if !p.ours() {
			continue
		}
		if err := s.check(p); err != nil {
			return nil, err
		}
	}
	s.interfaces(types.Universe.Lookup("error").Type())
	offered, err := os.ReadFile(filepath.Join(dir, api))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return s.dead(string(offered)), nil
}

func goList(dir string) ([]listed, error) {
	cmd := exec.CommandContext(context.Background(), "go", "list", "-deps", "-export", "-json=Dir,ImportPath,Export,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Standard,Module", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// Import serves the type checker.
func (s *survey) Import(path string) (*types.Package, error) {
	if p := s.packages[path]; p != nil {
		return p, nil
	}
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	p, err := s.others.Import(path)
	if err == nil {
		s.scope(p)
	}
	return p, err
}

// check reads one package of the module.
func (s *survey) check(p listed) error {
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(s.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, f)
		if ast.IsGenerated(f) {
			s.generated[filepath.Join(p.Dir, name)] = true
		}
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: s, Sizes: types.SizesFor("gc", "amd64")}
	pkg, err := config.Check(p.ImportPath, s.fset, files, info)
	if err != nil {
		return err
	}
	s.packages[p.ImportPath] = pkg
	s.scope(pkg)
	for _, o := range info.Uses {
		s.used[key(o)] = true
	}
	if internal := slices.Contains(strings.Split(p.ImportPath, "/"), "internal"); !internal && pkg.Name() != "main" {
		s.declare(pkg)
	}
	for _, name := range slices.Concat(p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
		if err := s.mention(p, name); err != nil {
			return err
		}
	}
	return nil
}

// scope remembers the interfaces that a package declares.
func (s *survey) scope(p *types.Package) {
	for _, name := range p.Scope().Names() {
		if t, ok := p.Scope().Lookup(name).(*types.TypeName); ok {
			s.interfaces(t.Type())
		}
	}
}

func (s *survey) interfaces(t types.Type) {
	if named, ok := t.(*types.Named); ok && named.TypeParams().Len() > 0 {
		return // what implements it depends on the argument
	}
	if i, ok := t.Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
		s.ifaces = append(s.ifaces, i)
	}
}

// declare remembers the exports of a package.
func (s *survey) declare(p *types.Package) {
	for _, name := range p.Scope().Names() {
		o := p.Scope().Lookup(name)
		if o.Exported() {
			s.declared[key(o)] = o
		}
		t, ok := o.(*types.TypeName)
		if !ok || t.IsAlias() {
			continue
		}
		named, ok := t.Type().(*types.Named)
		if !ok || !o.Exported() {
			continue
		}
		for m := range named.Methods() {
			if m.Exported() {
				s.declared[key(m)] = m
			}
		}
	}
}

// mention notes what a file that is not type-checked names. Its own tests do not count
// for a package: they are kept apart.
func (s *survey) mention(p listed, name string) error {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	place := p.ImportPath
	if strings.HasSuffix(name, "_test.go") {
		place += " test"
	}
	note := func(what string) {
		if s.mentions[what] == nil {
			s.mentions[what] = map[string]bool{}
		}
		s.mentions[what][place] = true
	}
	imported := map[string]string{} // by the name that the file gives it
	for _, spec := range f.Imports {
		full := strings.Trim(spec.Path.Value, `"`)
		local := path.Base(full)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		imported[local] = full
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			note(n.Name)
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && imported[x.Name] != "" {
				note(imported[x.Name] + "." + n.Sel.Name)
			}
		}
		return true
	})
	return nil
}

// key names an object the same way wherever it is seen.
func key(o types.Object) string {
	if o.Pkg() == nil {
		return o.Name()
	}
	if f, ok := o.(*types.Func); ok {
		o = f.Origin()
		if recv := f.Signature().Recv(); recv != nil {
			t := recv.Type()
			if p, ok := t.(*types.Pointer); ok {
				t = p.Elem()
			}
			if named, ok := t.(*types.Named); ok {
				return o.Pkg().Path() + "." + named.Obj().Name() + "." + o.Name()
			}
			return "" // of an interface without a name
		}
	}
	if o.Parent() != o.Pkg().Scope() {
		return "" // local
	}
	return o.Pkg().Path() + "." + o.Name()
}

var code = regexp.MustCompile("`[^`\n]*`|(?s:```.*?```)")

// selector is x.Name.
var selector = regexp.MustCompile(`(\w+)\.([A-Z]\w*)`)

// offer is how docs/api.md names an object.
func offer(o types.Object) string {
	if f, ok := o.(*types.Func); ok && f.Signature().Recv() != nil {
		return "." + o.Name()
	}
	return o.Pkg().Name() + "." + o.Name()
}

// dead returns what is declared and neither used nor offered.
func (s *survey) dead(offered string) []export {
	words := map[string]bool{} // "package.Name" and ".Method"
	for _, c := range code.FindAllString(offered, -1) {
		for _, w := range selector.FindAllStringSubmatch(c, -1) {
			words[w[1]+"."+w[2]], words["."+w[2]] = true, true
		}
	}
	var dead []export
	for k, o := range s.declared {
		if s.used[k] || s.generated[s.fset.Position(o.Pos()).Filename] || words[offer(o)] || s.mentioned(o) || s.asked(o) {
			continue
		}
		at := s.fset.Position(o.Pos())
		if rel, err := filepath.Rel(s.root, at.Filename); err == nil && !strings.HasPrefix(rel, "..") {
			at.Filename = rel
		} else if abs, err := filepath.Abs(s.root); err == nil {
			at.Filename = strings.TrimPrefix(at.Filename, abs+string(filepath.Separator))
		}
		dead = append(dead, export{k, fmt.Sprintf("%s:%d", at.Filename, at.Line)})
	}
	slices.SortFunc(dead, func(a, b export) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.at, b.at)) })
	return dead
}

// mentioned tells whether a file without types names the object: a method by its name
// anywhere, anything else by its package and name, or by its name within the package.
func (s *survey) mentioned(o types.Object) bool {
	own := o.Pkg().Path()
	if s.mentions[o.Name()][own] {
		return true
	}
	what := own + "." + o.Name()
	if f, ok := o.(*types.Func); ok && f.Signature().Recv() != nil {
		what = o.Name()
	}
	for place := range s.mentions[what] {
		if place != own+" test" {
			return true
		}
	}
	return false
}

// asked tells whether a method is one that an interface asks of its type.
func (s *survey) asked(o types.Object) bool {
	f, ok := o.(*types.Func)
	if !ok || f.Signature().Recv() == nil {
		return false
	}
	t := f.Signature().Recv().Type()
	if _, ok := t.(*types.Pointer); !ok {
		t = types.NewPointer(t) // has the methods of both
	}
	for _, i := range s.ifaces {
		if m, _, _ := types.LookupFieldOrMethod(i, false, f.Pkg(), f.Name()); m != nil && types.Implements(t, i) {
			return true
		}
	}
	return false
}

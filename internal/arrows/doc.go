// Package arrows tests which package imports which. It has no code of its own.
//
// Its one idea: the structure of the module is a table (table_test.go), and the
// table, the code and the drawing in docs/design.md must agree. A package imports
// only what its line of the table allows, every allowed import goes to a lower line
// of the drawing, and bans with a reason hold through any number of packages in
// between.
//
// It does not judge test files, except for the bans that name every file.
package arrows

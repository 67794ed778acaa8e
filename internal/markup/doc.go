// Package markup writes HTML pages without a template engine.
//
// Its one idea: what is markup already has a type of its own. Format escapes every value
// but those, so text that came from a user or a file cannot become markup by being
// forgotten.
//
// It replaces html/template, which finds methods by name as it runs: a program that reaches
// that cannot have its unused methods left out, and ours was a fifth larger. It knows two
// contexts, the text of an element and an attribute in double quotes. It is not for values
// within scripts, styles or addresses.
package markup

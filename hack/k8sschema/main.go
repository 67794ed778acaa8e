// Command k8sschema makes JSON schemas for kubeconform -strict out of the
// OpenAPI document that k8s.io/kubernetes ships, so that manifests can be
// validated without any network but the Go module proxy; and out of the custom resource
// definitions that are named as arguments.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	swagger := flag.String("swagger", "", "api/openapi-spec/swagger.json of k8s.io/kubernetes")
	out := flag.String("out", "", "directory for the schemas")
	flag.Parse()
	err := run(*swagger, *out)
	for _, file := range flag.Args() {
		err = errors.Join(err, custom(file, *out))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "k8sschema:", err)
		os.Exit(1)
	}
}

type groupVersionKind struct{ Group, Version, Kind string }

func run(swagger, out string) error {
	text, err := os.ReadFile(swagger)
	if err != nil {
		return err
	}
	var doc struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("%s: %w", swagger, err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	kinds := map[string][]groupVersionKind{}
	for name, d := range doc.Definitions {
		raw, err := json.Marshal(d["x-kubernetes-group-version-kind"])
		if err != nil {
			return err
		}
		var gvk []groupVersionKind
		if err := json.Unmarshal(raw, &gvk); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		kinds[name] = gvk
		strict(d)
	}
	all, err := json.Marshal(map[string]any{"definitions": doc.Definitions})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "_definitions.json"), all, 0o644); err != nil {
		return err
	}
	for name, gvk := range kinds {
		if len(gvk) != 1 {
			continue // shared ones such as DeleteOptions are no manifests
		}
		g := gvk[0]
		file := strings.ToLower(g.Kind)
		if g.Group != "" {
			group, _, _ := strings.Cut(g.Group, ".")
			file += "-" + group
		}
		schema := fmt.Sprintf("{%q: \"_definitions.json#/definitions/%s\"}\n", "$ref", name)
		path := filepath.Join(out, fmt.Sprintf("%s-%s.json", file, strings.ToLower(g.Version)))
		if err := os.WriteFile(path, []byte(schema), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// strict turns an OpenAPI definition into a JSON schema that refuses fields it
// does not know.
func strict(node any) {
	switch n := node.(type) {
	case []any:
		for _, v := range n {
			strict(v)
		}
	case map[string]any:
		if ref, ok := n["$ref"].(string); ok {
			n["$ref"] = "_definitions.json" + ref
		}
		if n["format"] == "int-or-string" {
			delete(n, "type")
			n["oneOf"] = []any{map[string]any{"type": "string"}, map[string]any{"type": "integer"}}
		}
		if properties, ok := n["properties"].(map[string]any); ok && n["type"] != "array" {
			if _, open := n["additionalProperties"]; !open {
				n["additionalProperties"] = false
			}
			for _, p := range properties {
				strict(p)
			}
		}
		for _, key := range []string{"items", "additionalProperties"} {
			strict(n[key])
		}
	}
}

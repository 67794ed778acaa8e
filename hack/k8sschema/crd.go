package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// crd is what of a CustomResourceDefinition its schema is in.
type crd struct {
	Spec struct {
		Group    string
		Names    struct{ Kind string }
		Versions []struct {
			Name   string
			Schema struct {
				OpenAPIV3Schema map[string]any `yaml:"openAPIV3Schema"`
			}
		}
	}
}

// custom writes the schemas of a custom resource, and that of a JobSet where its
// specification is part of one: Kubeflow's runtimes hold it whole, and the JobSet project
// has no module that a proxy offers.
func custom(file, out string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c crd
	if err := yaml.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, v := range c.Spec.Versions {
		schema := v.Schema.OpenAPIV3Schema
		strict(schema)
		if err := write(out, c.Spec.Group, c.Spec.Names.Kind, v.Name, schema); err != nil {
			return err
		}
		if c.Spec.Names.Kind != "ClusterTrainingRuntime" {
			continue
		}
		spec := dig(schema, "spec", "template", "spec")
		if spec == nil {
			return fmt.Errorf("%s: no JobSet in it", file)
		}
		open := map[string]any{}
		jobset := map[string]any{
			"type": "object", "additionalProperties": false, "required": []string{"spec"},
			"properties": map[string]any{"apiVersion": open, "kind": open, "metadata": open, "spec": spec},
		}
		if err := write(out, "jobset.x-k8s.io", "JobSet", "v1alpha2", jobset); err != nil {
			return err
		}
	}
	return nil
}

// dig walks the properties of nested objects; nil where one is not there.
func dig(schema map[string]any, names ...string) map[string]any {
	for _, n := range names {
		properties, _ := schema["properties"].(map[string]any)
		schema, _ = properties[n].(map[string]any)
	}
	return schema
}

func write(out, group, kind, version string, schema map[string]any) error {
	text, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	short, _, _ := strings.Cut(group, ".")
	return os.WriteFile(filepath.Join(out, strings.ToLower(kind+"-"+short+"-"+version)+".json"), text, 0o644)
}

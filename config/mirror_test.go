package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMirror(t *testing.T) {
	for text, want := range map[string]Mirror{
		"s3://b/p":    {Bucket: "b", Prefix: "p"},
		"s3://b/p/q/": {Bucket: "b", Prefix: "p/q"},
		"s3://b/p?region=eu-central-1&path_style=true&endpoint=http://minio.svc:9000": {
			Bucket: "b", Prefix: "p", Endpoint: "http://minio.svc:9000", Region: "eu-central-1", PathStyle: true,
		},
	} {
		got, err := ParseMirror(text)
		require.NoError(t, err, text)
		require.Equal(t, &want, got)
	}
	got, err := ParseMirror("")
	require.NoError(t, err)
	require.Nil(t, got)
	for text, want := range map[string]string{
		"bucket/p":                       "write s3://BUCKET/PREFIX",
		"gs://b/p":                       "write s3://BUCKET/PREFIX",
		"s3:b/p":                         "write s3://BUCKET/PREFIX",
		"s3:///p":                        "names no bucket",
		"s3://b":                         "a prefix of the run's own",
		"s3://minio:9000/b/p":            "endpoint=http://minio:9000",
		"s3://b/../p":                    "single slashes",
		"s3://b/p#1":                     "a # begins",
		"s3://b/p?endpoint=minio:9000":   "write https://HOST",
		"s3://b/p?path_style=maybe":      "write true or false",
		"s3://b/p?secret=1":              `has "secret" after the ?`,
		"s3://b/p?endpoint=http://h/sub": "write https://HOST",
		"s3://b/p?a=%zz":                 "cannot be read",
		"s3://b/p%zz":                    "is no URL",
	} {
		_, err := ParseMirror(text)
		require.ErrorContains(t, err, want, text)
	}
	for _, text := range []string{"s3://user:hush@b/p", "s3://user:hush@b/p%zz"} {
		_, err = ParseMirror(text)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hush")
	}
}

func FuzzParseMirror(f *testing.F) {
	for _, s := range []string{"", "s3://b/p", "s3://b/p?region=x&endpoint=http://h:1", "s3://u:p@b/p", "s3://b/%2e%2e/p"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMirror(text)
		if err != nil || m == nil {
			return
		}
		if m.Bucket == "" || m.Prefix == "" || strings.HasPrefix(m.Prefix, "/") || strings.HasSuffix(m.Prefix, "/") {
			t.Fatalf("%q: %+v", text, m)
		}
	})
}

package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Mirror is the place that checkpoint.mirror names.
type Mirror struct {
	Bucket, Prefix   string
	Endpoint, Region string // "": the environment says, or the store itself
	PathStyle        bool
}

// ParseMirror reads checkpoint.mirror; nil: there is none.
func ParseMirror(text string) (*Mirror, error) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("is no URL; write s3://BUCKET/PREFIX") // without the text: it may hold a password
	}
	bucket, prefix := u.Host, strings.Trim(u.Path, "/")
	switch {
	case u.User != nil:
		return nil, errors.New("has a user or password in it, which would be saved with the run; give credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")
	case u.Scheme != "s3" || u.Opaque != "":
		return nil, fmt.Errorf("is %q; write s3://BUCKET/PREFIX", text)
	case bucket == "":
		return nil, fmt.Errorf("is %q, which names no bucket; write s3://BUCKET/PREFIX", text)
	case u.Port() != "":
		return nil, fmt.Errorf("is %q; what follows s3:// is a bucket: give a server as s3://BUCKET/PREFIX?endpoint=http://%s", text, u.Host)
	case prefix == "":
		return nil, fmt.Errorf("is %q; name a prefix of the run's own too, as s3://%s/NAME", text, bucket)
	case u.Fragment != "":
		return nil, fmt.Errorf("is %q; a # begins no part of a prefix", text)
	case slices.Contains(strings.Split(prefix, "/"), "..") || strings.Contains(prefix, "//"):
		return nil, fmt.Errorf("is %q; a prefix has names between single slashes", text)
	}
	m := &Mirror{Bucket: bucket, Prefix: prefix}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("is %q; what follows ? cannot be read: %w", text, err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		value := query.Get(name)
		switch name {
		case "endpoint":
			e, err := url.Parse(value)
			if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" || strings.Trim(e.Path, "/") != "" || e.User != nil {
				return nil, fmt.Errorf("has endpoint %q; write https://HOST or http://HOST:PORT", value)
			}
			m.Endpoint = value
		case "region":
			m.Region = value
		case "path_style":
			if m.PathStyle, err = strconv.ParseBool(value); err != nil {
				return nil, fmt.Errorf("has path_style %q; write true or false", value)
			}
		default:
			return nil, fmt.Errorf("has %q after the ?; endpoint, region and path_style are known", name)
		}
	}
	return m, nil
}

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// images builds the images of the test with buildah, and returns them as archives.
func (c *cluster) images(ctx context.Context) ([]string, error) {
	dir := filepath.Join(c.state, "build")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "tmp"), 0o755),
		writeFile(filepath.Join(dir, "policy.json"), `{"default":[{"type":"insecureAcceptAnything"}]}`),
		writeFile(filepath.Join(dir, "registries.conf"), "")); err != nil {
		return nil, err
	}
	version, err := c.imageVersion()
	if err != nil {
		return nil, err
	}
	own, err := c.withoutGo()
	if err != nil {
		return nil, err
	}
	pause := "FROM scratch\nCOPY pause/pause /pause\nENTRYPOINT [\"/pause\"]\n"
	var archives []string
	for _, i := range []struct{ name, dockerfile string }{
		{"docker.io/library/agrdist:" + version, own}, {"registry.k8s.io/pause:3.10", pause},
	} {
		base := filepath.Base(strings.Split(i.name, ":")[0])
		file, archive := filepath.Join(dir, base+".Dockerfile"), filepath.Join(dir, base+".tar")
		if err := writeFile(file, i.dockerfile); err != nil {
			return nil, err
		}
		if _, err := c.buildah(ctx, "bud", "--isolation", "chroot", "--signature-policy", dir+"/policy.json", "--build-arg", "VERSION="+version,
			"-f", file, "-t", i.name, c.work); err != nil {
			return nil, err
		}
		if _, err := c.buildah(ctx, "push", "--signature-policy", dir+"/policy.json", i.name, "docker-archive:"+archive+":"+i.name); err != nil {
			return nil, err
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

// buildah runs it on storage of the test's own.
func (c *cluster) buildah(ctx context.Context, args ...string) (string, error) {
	dir := filepath.Join(c.state, "build")
	return command(ctx, append([]string{
		"env", "TMPDIR=" + dir + "/tmp", "CONTAINERS_CONF=/dev/null", "CONTAINERS_REGISTRIES_CONF=" + dir + "/registries.conf",
		"buildah", "--root", dir + "/storage", "--runroot", dir + "/run", "--storage-driver", "overlay",
	}, args...)...)
}

// imageVersion is the tag that the base names.
func (c *cluster) imageVersion() (string, error) {
	text, err := os.ReadFile(filepath.Join(c.work, "k8s", "base", "kustomization.yaml"))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`newTag: (\S+)`).FindSubmatch(text)
	if m == nil {
		return "", errors.New("the base's kustomization.yaml has no newTag")
	}
	return string(m[1]), nil
}

// withoutGo is deploy/Dockerfile with its first stage replaced: golang's image cannot be
// had where only package registries can be reached, so hack/e2e-k8s.sh has run
// deploy/rootfs.sh on this machine instead. What makes the image is the real text.
func (c *cluster) withoutGo() (string, error) {
	text, err := os.ReadFile(filepath.Join(c.repo, "deploy", "Dockerfile"))
	if err != nil {
		return "", err
	}
	_, last, ok := strings.Cut(string(text), "\nFROM scratch\n")
	if !ok {
		return "", fmt.Errorf("deploy/Dockerfile has no stage FROM scratch")
	}
	return "FROM scratch AS build\nCOPY rootfs /rootfs\nFROM scratch\n" + last, nil
}

//go:build linux

package main

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// imageList builds the image for amd64 and arm64 as a release does, and looks at what the
// list of both names and holds.
func imageList(ctx context.Context, t *test) error {
	const name = "localhost/agrdist:list"
	dir := filepath.Join(t.state, "build")
	text, err := t.withoutGo()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "list.Dockerfile")
	if err := writeFile(file, text); err != nil {
		return err
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for arch, machine := range machines {
		files := filepath.Join(t.work, "list-"+arch) // its rootfs is what the Dockerfile copies; hack/e2e-k8s.sh made it
		program, err := elf.Open(filepath.Join(files, "rootfs", "agrdist"))
		if err != nil {
			return err
		}
		libraries, err := program.ImportedLibraries()
		if err := errors.Join(err, program.Close()); err != nil {
			return err
		}
		if program.Machine != machine || len(libraries) > 0 {
			return fmt.Errorf("the binary for %s is for %v, and needs %v", arch, program.Machine, libraries)
		}
		if _, err := t.buildah(ctx, "bud", "--isolation", "chroot", "--signature-policy", dir+"/policy.json", "--platform", "linux/"+arch,
			"--manifest", name, "-f", file, files); err != nil {
			return err
		}
	}
	out, err := t.buildah(ctx, "manifest", "inspect", name)
	if err != nil {
		return err
	}
	var list struct {
		Manifests []struct {
			Platform struct{ Architecture, OS string }
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return err
	}
	var found []string
	for _, m := range list.Manifests {
		found = append(found, m.Platform.OS+"/"+m.Platform.Architecture)
	}
	slices.Sort(found)
	fmt.Fprintln(os.Stdout, "    ", found)
	if !slices.Equal(found, []string{"linux/amd64", "linux/arm64"}) {
		return fmt.Errorf("the list of images has %v: %s", found, out)
	}
	return nil
}

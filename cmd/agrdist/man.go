//go:build man

package main

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/agrdist/agrdist/internal/version"
)

// The manual pages are written by a build of this program with the tag man, so that
// the released one does not carry a Markdown parser: go run -tags man ./cmd/agrdist man DIR.
func init() { extra = append(extra, manCommand) }

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages into DIR", Args: cobra.ExactArgs(1), Hidden: true,
		Example: "  agrdist man man1",
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			// The time of the commit, so that the same sources give the same pages.
			when := time.Unix(0, 0).UTC()
			if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
				when = time.Unix(s, 0).UTC()
			}
			return doc.GenManTree(c.Root(), &doc.GenManHeader{
				Section: "1", Date: &when, Source: "agrdist " + version.Version, Manual: "agrdist manual",
			}, args[0])
		},
	}
}

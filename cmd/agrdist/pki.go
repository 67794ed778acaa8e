package main

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/cluster/security"
)

func pkiCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "pki", Short: "Make certificates for the nodes of runs",
		Long: `Make certificates for the nodes of runs.

A run needs none: its processes issue themselves certificates by an authority that follows
from the secret, and whoever has the secret can speak for any node. With certificates from
files a node can speak for itself only. The secret is needed all the same, for the gossip
and the gradients. Any authority will do whose certificates name the node by the URI
agrdist://node/NODE; this command is a small one.`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(pkiInit(), pkiIssue())
	return c
}

func pkiInit() *cobra.Command {
	days := 365
	c := &cobra.Command{
		Use: "init DIR [NODE...]", Short: "Make an authority, and certify nodes",
		Long: `Make an authority in DIR (ca.pem and ca-key.pem) and certify nodes (NODE.pem and
NODE-key.pem). Keep DIR, or ca-key.pem at least, where no run is: each node needs ca.pem and
its own two files only.`,
		Example: "  agrdist pki init pki n0 n1 n2",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, node := range args[1:] {
				if err := security.CheckNode(node); err != nil {
					return err
				}
			}
			a, err := security.NewAuthority(args[0], time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "made an authority: %s; keep %s secret\n", filepath.Join(args[0], "ca.pem"), filepath.Join(args[0], "ca-key.pem"))
			return certify(c.OutOrStdout(), a, args[0], args[1:], days)
		},
	}
	c.Flags().IntVar(&days, "days", days, "how long the nodes' certificates are good for")
	return c
}

func pkiIssue() *cobra.Command {
	days := 365
	c := &cobra.Command{
		Use: "issue DIR NODE...", Short: "Certify more nodes, or the same with new keys",
		Long: `Certify nodes by the authority in DIR: more of them, or the same with new keys before their
certificates end. Running nodes read changed files by themselves: copy the new ones over
the old ones.`,
		Example: "  agrdist pki issue pki n3\n  agrdist pki issue pki n0 --days 30",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := security.OpenAuthority(args[0])
			if err != nil {
				return err
			}
			return certify(c.OutOrStdout(), a, args[0], args[1:], days)
		},
	}
	c.Flags().IntVar(&days, "days", days, "how long the certificates are good for")
	return c
}

// certify makes a certificate for each node and says how to use it.
func certify(out io.Writer, a *security.Authority, dir string, nodes []string, days int) error {
	now := time.Now()
	for _, node := range nodes {
		cert, key, err := a.Issue(node, days, now)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s, until %s: --set cluster.ca_file=%s --set cluster.cert_file=%s --set cluster.key_file=%s\n",
			node, now.AddDate(0, 0, days).Format(time.DateOnly), filepath.Join(dir, "ca.pem"), cert, key)
	}
	return nil
}

// Package export writes the history of a run in the forms of other tools: tables (CSV,
// Parquet) for notebooks, and the offline files of experiment trackers.
//
// Its one idea: files only. Nothing here opens a connection; whoever keeps a tracker
// imports the files with its own client. All forms have the numbers of metrics.Columns
// under the same names.
//
// What it does not do: it does not read runs (metrics.History does), and it exports no
// weights (agrdist checkpoint export does).
package export

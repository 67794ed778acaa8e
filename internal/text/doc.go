// Package text makes text that comes from outside (file names, host names,
// environment, directories) fit for messages, JSON and logs.
//
// Its one idea: bytes that are not UTF-8 are shown as \xNN, so that no encoder
// refuses a message because of them and a person can still find the file. What is
// valid stays as it is. The package knows no terminal and no quoting for a shell.
package text

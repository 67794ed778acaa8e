// Package fetch gets the data sets that agrdist knows by name: it downloads their
// archives and unpacks them into files that package data reads.
//
// Its one idea: a file takes its name only when it is whole and checked. Bytes go
// to NAME.part; a download that was cut off resumes there, today or tomorrow;
// what does not have the expected SHA-256 is thrown away. Nothing in an archive
// chooses where it is written.
//
// It knows CIFAR-10 and emoji32, and no other place than those that it is given.
package fetch

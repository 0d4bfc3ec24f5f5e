// Package house holds no code, only the tests that keep the house as it was designed: who may import whom and why, what
// every room must say about itself, what no source file may hold, and that the documents speak of things that exist.
//
// Each rule is a function from a tree of files to findings. It is held twice: against the repository, where it must find
// nothing, and against small trees with one sin each, where it must find exactly that. A rule that is in the way is changed
// here, in the open, with its reason; it is never worked around.
//
// Start at rooms_test.go: the table of packages.
package house

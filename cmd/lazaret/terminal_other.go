//go:build !unix

package main

import "os"

// terminalWidth is 80 where there is no common way to ask.
func terminalWidth(*os.File) int { return 80 }

// Command generate makes dictionary.bin, the embedded file of package dictionary, from a folder of facts in JSON, one
// file a version (v2.1.json to v2.8.2.json; the folder's README gives shape, sources and licences).
//
//	go run ./hl7/dictionary/generate -from ../shared/data/dictionary -to hl7/dictionary/dictionary.bin
//
// The same facts give the same content; the compressed bytes may differ between releases of Go. What it leaves out is
// nothing; what it mends is said at normalise.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	from := flag.String("from", "../../../shared/data/dictionary", "folder of v*.json")
	to := flag.String("to", "dictionary.bin", "file to write")
	flag.Parse()
	if err := run(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	all, err := readSources(from)
	if err != nil {
		return err
	}
	content, err := encode(all)
	if err != nil {
		return err
	}
	packed, err := pack(content)
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if err := os.WriteFile(to, packed, 0o644); err != nil {
		return err
	}
	fmt.Printf("%d versions, %d bytes of content, %d bytes written\n", len(all), len(content), len(packed))
	return nil
}

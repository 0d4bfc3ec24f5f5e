package db

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// checkText refuses what one of the engines could not keep as text, so that it fails alone and before it joins a group.
func checkText(s string) error {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return errors.New("text must be UTF-8 without NUL")
	}
	return nil
}

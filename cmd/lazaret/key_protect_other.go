//go:build !linux

package main

import "crypto/fips140"

// protect knows no way on this system.
func protect() map[string]string {
	return map[string]string{"fips140": onOff(fips140.Enabled()), "core dumps": "not switched off on this system", "locked memory": "no"}
}

package seal_test

import (
	"crypto/fips140"
	"os"
	"testing"
)

// The suite fips says what it expects, so that it cannot pass with the module off.
func TestFIPSModeIsTheOneThatTheSuiteAsksFor(t *testing.T) {
	if os.Getenv("LAZARET_TEST_FIPS") == "on" && !fips140.Enabled() {
		t.Error("the FIPS 140-3 module is off")
	}
	t.Logf("FIPS 140-3 module on: %v, version %s", fips140.Enabled(), fips140.Version())
}

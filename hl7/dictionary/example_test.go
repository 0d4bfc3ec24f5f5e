package dictionary_test

import (
	"fmt"

	"github.com/lazaret-health/lazaret/hl7/dictionary"
)

func Example() {
	d, err := dictionary.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	v, exact := d.Version("2.9")
	fmt.Println(v.Name(), exact)

	v, _ = d.Version("2.5.1")
	fmt.Println(v.Describe("PID", 3, 4, 0))

	sex, _ := v.Table("0001")
	label, _ := sex.Value("F")
	fmt.Println(sex.Name, "F:", label)

	id, _ := v.EventStructure("ADT", "A04")
	s, _ := v.Structure(id)
	fmt.Println(s.Check([]string{"MSH", "EVN", "PV1"}))
	// Output:
	// 2.8.2 false
	// PID-3.4 Patient Identifier List / Assigning Authority
	// Administrative Sex F: Female
	// segment 3 is PV1 where ADT_A01 has PID
}

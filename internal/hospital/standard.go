package hospital

// StandardSize is the length in bytes of every Standard message.
const StandardSize = 1250

// Standard is the message of the benchmarks: an ADT^A01 of 1,250 bytes (version 2.5.1, ASCII, CR) whose control ID,
// patient and account are made of i and of nothing else. It is cheap: one allocation. Numbers repeat after 100 million.
// The invented patient is always the same otherwise.
func Standard(i int) []byte {
	b := make([]byte, 0, StandardSize)
	b = append(b, "MSH|^~\\&|HIS|STANDARD|LAZARET|STANDARD|20260301083015||ADT^A01^ADT_A01|STD"...)
	b = digits(b, i)
	b = append(b, "|P|2.5.1|||AL|NE\rEVN|A01|20260301083015||01|U201^Desk^Front^^^^^^STANDARD|20260301083000\rPID|1||"...)
	b = digits(b, i)
	b = append(b, "^^^STANDARD^MR~900-01-0001^^^NATIONAL^SS||Quillfeather^Ada^Maren^^Mrs^^L|Brambleworth^^^^^^M|19580412|F||2106-3^White^HL70005|"+
		"17 Invention Row^Apt 4^Exampleton^AA^00001^USA^H||(312)555-0117^PRN^PH~(312)555-0118^ORN^CP|(312)555-0119^WPN^PH|en|M|CHR|A"...)
	b = digits(b, i)
	b = append(b, "^^^STANDARD^AN|900-01-0001\r"+
		"PD1|||EXAMPLETON FAMILY PRACTICE^^12345|D1001^Ersatz^Ingrid^^^Dr\r"+
		"NK1|1|Quillfeather^Viggo|SPO^Spouse^HL70063|17 Invention Row^Apt 4^Exampleton^AA^00001^USA^H|(312)555-0118|||20260301\r"+
		"PV1|1|I|4SOUTH^112^B^STANDARD^^N^MAIN^4|E|||D1002^Pseudonym^Olaf^^^Dr|D1003^Fauxbourg^Celine^^^Dr||MED||||7|||D1002^Pseudonym^Olaf^^^Dr|IP|V"...)
	b = digits(b, i)
	return append(b, "^^^STANDARD^VN|COM||||||||||||||||||||||||20260301083000\r"+
		"PV2|||J18.9^Pneumonia, unspecified organism^I10||||||20260305|4\r"+
		"OBX|1|NM|BW^Body weight^L||63.5|kg|||||F|||20260301083000\r"+
		"OBX|2|NM|BH^Body height^L||168.0|cm|||||F|||20260301083000\r"+
		"AL1|1|DA^Drug allergy^HL70127|PEN^Penicillin^L|MO|RASHES\r"+
		"DG1|1||J18.9^Pneumonia, unspecified organism^I10||20260301083000|A\r"+
		"IN1|1|P01^Basic|INS01|Example Mutual of Exampleton|1 Nowhere Lane^^Exampleton^AA^00001\r"...)
}

// digits appends eight of them.
func digits(b []byte, i int) []byte {
	n := uint64(i) % 100_000_000
	for place := uint64(10_000_000); place > 0; place /= 10 {
		b = append(b, byte('0'+n/place%10))
	}
	return b
}

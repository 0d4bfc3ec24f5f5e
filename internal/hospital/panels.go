package hospital

// A panel is a test that can be ordered. Codes are the hospital's own, for no coding system's licence has to be carried.
type panel struct {
	code, name string
	section    string // OBR-24, table 0074
	specimen   string // SPM-4, table 0487, and OBR-15 before 2.5; "" when none is taken
	analytes   []analyte
	findings   []string // of a panel that is read, not measured
}

// An analyte is one measured value and its reference range.
type analyte struct {
	code, name, unit string
	low, high        float64
	decimals         int
}

func (p panel) service() string { return comp(p.code, text(p.name), "L") }

var panels = []panel{
	{code: "FBC", name: "Full blood count", section: "HM", specimen: "BLD^Whole blood^HL70487", analytes: []analyte{
		{"HGB", "Haemoglobin", "g/dL", 12, 17, 1}, {"WBC", "Leucocytes", "10*9/L", 4, 11, 1}, {"PLT", "Platelets", "10*9/L", 150, 400, 0},
		{"HCT", "Haematocrit", "%", 36, 50, 1}, {"MCV", "Mean cell volume", "fL", 80, 100, 1},
	}},
	{code: "BMP", name: "Electrolytes & renal function", section: "CH", specimen: "SER^Serum^HL70487", analytes: []analyte{
		{"NA", "Sodium", "mmol/L", 135, 145, 0}, {"K", "Potassium", "mmol/L", 3.5, 5.1, 1}, {"CL", "Chloride", "mmol/L", 98, 107, 0},
		{"CREA", "Creatinine", "umol/L", 50, 110, 0}, {"UREA", "Urea", "mmol/L", 2.5, 7.8, 1}, {"GLU", "Glucose", "mmol/L", 3.9, 6.1, 1},
	}},
	{code: "LIPID", name: "Lipids", section: "CH", specimen: "SER^Serum^HL70487", analytes: []analyte{
		{"CHOL", "Cholesterol", "mmol/L", 3, 5.2, 2}, {"TRIG", "Triglycerides", "mmol/L", 0.5, 1.7, 2}, {"HDL", "HDL cholesterol", "mmol/L", 1, 2.2, 2},
	}},
	{code: "CRP", name: "C-reactive protein", section: "CH", specimen: "SER^Serum^HL70487", analytes: []analyte{
		{"CRP", "C-reactive protein", "mg/L", 0.5, 5, 1},
	}},
	{code: "COAG", name: "Coagulation", section: "HM", specimen: "PLAS^Plasma^HL70487", analytes: []analyte{
		{"INR", "INR", "1", 0.8, 1.2, 1}, {"APTT", "aPTT", "s", 25, 37, 0},
	}},
	{code: "CXR", name: "Chest X-ray, two views", section: "RAD", findings: []string{
		"Lungs clear. No effusion.", "Heart of normal size.", "Small opacity at the left base; compare in 6 weeks.",
		"No change since the previous examination.", "Degenerative changes of the spine.",
	}},
	{code: "ECG", name: "12-lead ECG", section: "EC", findings: []string{
		"Sinus rhythm, 72/min.", "Sinus tachycardia, 104/min.", "Normal axis, normal intervals.", "First degree AV block.",
	}},
}

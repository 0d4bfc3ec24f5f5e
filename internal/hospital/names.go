package hospital

import "strings"

// All names are made up: families that no register knows, streets of no town. Those in latin are within ISO 8859-1; those
// in wide need UTF-8.

var escapes = strings.NewReplacer(`\`, `\E\`, "|", `\F\`, "^", `\S\`, "&", `\T\`, "~", `\R\`)

var latinFamilies = []string{
	"Quillfeather", "Brambleworth", "Testova", "Sampleton", "Mockridge", "Fictheim", "Ünfugmann", "Probenström", "Attrapière",
	"Ejemplár", "Plåtzhålder", "Dummøy", "Fabulón", "Erfundén", "Imaginère", "O'Notreal", "Phantomby", "Specimen-Ashdown",
	"Wattenot", "Nullington", "Placeholt", "Simulacre", "Virtuález", "Müsterling", "Façadeau", "Niemandsgaard",
}

var wideFamilies = []string{
	"Próbkowska-Źródło", "Vymyšlenková", "Τεστίδου", "Примеров", "試験田", "Örneköğlu", "Neexistujúča", "Paraugiņš",
}

var women = []string{
	"Ada", "Béatrice", "Clara", "Dolores", "Edith", "Françoise", "Greta", "Héloïse", "Inés", "Jorunn", "Käthe", "Leonor",
	"Maren", "Noor", "Odile", "Petra", "Ruth", "Søs", "Thea", "Ursula",
}

var men = []string{
	"Anton", "Björn", "Carlo", "Diego", "Emil", "François", "Günther", "Hans", "Ívar", "José", "Karl", "Loïc", "Matteo", "Niels",
	"Oskar", "Pío", "René", "Sören", "Tomás", "Viggo",
}

var streets = []string{
	"Invention Row", "Nowhere Lane", "Rue de l'Exemple", "Musterstraße", "Fable & Sons Yard", "Calle Ficción", "Placeholder Mews",
	"Prøvevej", "Sample Hill", "Mock Turtle Close",
}

// A town of no map, its state by the post's code for "armed forces", its ZIP unassigned.
var towns = []string{"Exampleton^AA^00001", "Inventville^AA^00002", "Saint-Modèle^AA^00003", "Örtli am See^AA^00004"}

var relations = []string{"SPO^Spouse^HL70063", "PAR^Parent^HL70063", "CHD^Child^HL70063", "SIB^Sibling^HL70063", "FND^Friend^HL70063"}

var doctors = []string{
	"D1001^Ersatz^Ingrid^^^Dr", "D1002^Pseudonym^Olaf^^^Dr", "D1003^Fauxbourg^Céline^^^Dr", "D1004^Scheinbar^Jürgen^^^Dr",
	"D1005^Inventado^Marisol^^^Dr", "D1006^Feignwell^Rupert^^^Dr",
}

var clerks = []string{"U201^Desk^Front", "U202^Night^Clerk", "U203^Ward^Secretary"}

var wards = []string{"2WEST", "3NORTH", "4SOUTH", "ICU", "MATERNITY", "CARDIO"}

var clinics = []string{"CLINIC-A", "CLINIC-B", "EYE", "DIALYSIS", "EMERGENCY"}

var reasons = []string{
	"J18.9^Pneumonia, unspecified organism^I10", "I10^Essential hypertension^I10", "S52.5^Fracture of lower end of radius^I10",
	"E11.9^Type 2 diabetes mellitus without complications^I10", "K35.8^Acute appendicitis^I10", "R07.4^Chest pain, unspecified^I10",
}

// Type, substance and severity: AL1-2 to 4.
var allergies = [][3]string{
	{"DA", "PEN^Penicillin^L", "MO"}, {"DA", "ASA^Aspirin^L", "MI"},
	{"FA", "NUT^Tree nuts^L", "SV"}, {"EA", "LTX^Latex^L", "MI"},
}

// Plan, company and its name: IN1-2 to 4.
var insurers = [][3]string{
	{"P01", "INS01", "Example Mutual"}, {"P02", "INS02", "Nowhere Health Plan"}, {"P03", "INS03", "Caisse Imaginaire"},
}

var languages = []string{"en", "es", "fr", "de", "da"}

var notes = []string{
	"Specimen slightly haemolysed; potassium may read high.",
	"Repeated & confirmed on a second instrument.",
	"Called to the ward; read back by the nurse in charge.",
	"Reference range adjusted for age | sex.",
	"Compare with the previous result before acting on this one.",
}

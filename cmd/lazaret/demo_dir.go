package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// demoConfig is the configuration that demo writes. %[n]d are ports: adt, oru, registry, laboratory, archive.
const demoConfig = `# Written by "lazaret demo". All other commands work on it, and it is yours to change:
#     lazaret check --config %[7]s
organisation: st-mary
database: sqlite:data/lazaret.db
keys: {root: "file:keys/root", store: keys/data}
log: {level: info, format: text}

tables:
  patient-class:
    values: {I: INPATIENT, O: OUTPATIENT, E: EMERGENCY}

channels:
  - name: adt
    description: admissions, transfers, merges, from the hospital's information system
    source:
      mllp:
        listen: "127.0.0.1:%[1]d"
        tls: {certificate: file:certs/lazaret.pem, key: file:certs/lazaret.key, clients: file:certs/ca.pem, names: [hospital]}
    admit: {types: ["ADT^*"], duplicates: 24h}
    destinations:
      - name: registry                    # every message as it came, in strict order
        mllp:
          address: "127.0.0.1:%[3]d"
          tls: {certificate: file:certs/lazaret.pem, key: file:certs/lazaret.key, ca: file:certs/ca.pem, server_name: registry}
        order: strict
        window: 16
        retry: {first: 250ms, max: 1s}
      - name: laboratory                  # what concerns it, and of that what it needs
        mllp:
          address: "127.0.0.1:%[4]d"
          tls: {certificate: file:certs/lazaret.pem, key: file:certs/lazaret.key, ca: file:certs/ca.pem, server_name: laboratory}
        filter: 'MSH-9.2 in [%[6]s]'
        steps:
          - set: {MSH-5: LIS, MSH-6: LABORATORY}
          - delete: ["NK1(*)", "PID(*)-19"]
          - map: {field: PV1-2, table: patient-class}
        order: patient
        window: 16
        retry: {first: 250ms, max: 1s}
        on_reject: skip                   # it does not support A11, and says so

  - name: oru
    description: results, some with a PDF, from the hospital's laboratory system
    source:
      mllp:
        listen: "127.0.0.1:%[2]d"
        tls: {certificate: file:certs/lazaret.pem, key: file:certs/lazaret.key, clients: file:certs/ca.pem, names: [hospital]}
    admit: {types: ["ORU^R01"], duplicates: 24h}
    destinations:
      - name: archive
        mllp:
          address: "127.0.0.1:%[5]d"
          tls: {certificate: file:certs/lazaret.pem, key: file:certs/lazaret.key, ca: file:certs/ca.pem, server_name: archive}
        order: patient
        window: 16
        retry: {first: 250ms, max: 1s}
`

// demoSite is what the demo remembers of its folder.
type demoSite struct {
	dir       string
	ADT       string            `json:"adt"` // addresses
	ORU       string            `json:"oru"`
	Receivers map[string]string `json:"receivers"`
	Runs      uint64            `json:"runs"` // each run's hospital is another one
}

const demoFile = "demo.json"

// prepareDemo makes the folder ready: a new one, or one that an earlier demo has made. It touches no other folder that holds
// anything.
func prepareDemo(dir string, now time.Time) (site *demoSite, fresh bool, err error) {
	site = &demoSite{dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, demoFile))
	switch {
	case err == nil:
		if err := json.Unmarshal(text, site); err != nil {
			return nil, false, fmt.Errorf("%s: %w", filepath.Join(dir, demoFile), err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	default:
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
		if len(entries) > 0 {
			return nil, false, hint(fmt.Errorf("%s is not empty, and no earlier demo has made it", dir), "name an empty or a new folder with --dir")
		}
		fresh = true
		if err := site.make(now); err != nil {
			return nil, false, err
		}
	}
	site.Runs++
	return site, fresh, site.save()
}

func (s *demoSite) save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, demoFile), append(text, '\n'), 0o600)
}

func (s *demoSite) config() string { return filepath.Join(s.dir, "lazaret.yaml") }

// make fills an empty folder: certificates, free ports, the configuration.
func (s *demoSite) make(now time.Time) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	names := []string{"lazaret", "hospital"}
	for _, r := range demoReceivers() {
		names = append(names, r.name)
	}
	if err := makeCertificates(filepath.Join(s.dir, "certs"), now, names...); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	ports, err := freePorts(2 + len(demoReceivers()))
	if err != nil {
		return err
	}
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	s.ADT, s.ORU, s.Receivers = address(0), address(1), map[string]string{}
	for i, r := range demoReceivers() {
		s.Receivers[r.name] = address(2 + i)
	}
	text := fmt.Sprintf(demoConfig, ports[0], ports[1], ports[2], ports[3], ports[4],
		`"`+strings.Join(demoTypes(), `", "`)+`"`, s.config())
	return os.WriteFile(s.config(), []byte(text), 0o600)
}

// freePorts asks the system for ports that nobody listens on. They are let go before they are used, so another program may
// take one in between; then the start says so.
func freePorts(n int) (ports []int, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

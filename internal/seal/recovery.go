package seal

import (
	"bytes"
	"crypto/fips140"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// A recovery copy is the root key somewhere else: split among people, or sealed to an age recipient whose identity lies in a
// safe. Without one, a lost root key loses everything. That one was made and tried is kept in the key store's directory
// (Recovery), so that it can be asked for until it was.

// ErrNotLocal means that a root key is in nobody's hands but its service's, which keeps its own copies.
var ErrNotLocal = errors.New("the root key lies in a key management service, which never hands it out: see to its own backup there")

// ErrRecovery means that a recovery copy cannot be made as asked for.
var ErrRecovery = errors.New("no recovery copy was made")

// A share as text is "lazaret-share I K-of-N: " and, in base32 (RFC 4648) in groups of five, these bytes: version 1, k, n, x,
// the root's id (8), the share (32), and 4 of SHA-256 over all before.
const (
	shareVersion = 1
	shareSize    = 4 + localIDSize + keySize + 4
	shareGroup   = 5
)

func shareText(b []byte) string {
	sum := sha256.Sum256(b)
	all := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(append(b, sum[:4]...))
	var groups []string
	for len(all) > shareGroup {
		groups, all = append(groups, all[:shareGroup]), all[shareGroup:]
	}
	return fmt.Sprintf("lazaret-share %d, %d-of-%d: %s", b[3], b[1], b[2], strings.Join(append(groups, all), "-"))
}

// A share is read with what people do to text on paper: spaces, line ends, small letters, 0 for O, 1 for I, 8 for B.
func parseShare(text string) (b []byte, err error) {
	if at := strings.LastIndexByte(text, ':'); at >= 0 {
		text = text[at+1:]
	}
	text = strings.NewReplacer("0", "O", "1", "I", "8", "B").Replace(strings.ToUpper(text))
	text = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '2' && r <= '7' {
			return r
		}
		return -1
	}, text)
	b, err = base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	if err != nil || len(b) != shareSize {
		return nil, fmt.Errorf("it has %d letters and digits instead of %d: some are missing or too many", len(text), base32.StdEncoding.WithPadding(base32.NoPadding).EncodedLen(shareSize))
	}
	body, sum := b[:shareSize-4], sha256.Sum256(b[:shareSize-4])
	if !bytes.Equal(b[shareSize-4:], sum[:4]) {
		return nil, errors.New("a letter is wrong: compare it with the paper")
	}
	if body[0] != shareVersion || body[1] < 2 || body[2] < body[1] || body[3] < 1 || body[3] > body[2] {
		return nil, errors.New("it is of a kind that this build does not know")
	}
	return body, nil
}

// SplitRoot makes n shares of a root key, of which any k bring it back.
func SplitRoot(root Root, k, n int) ([]string, error) {
	r, ok := root.(*localRoot)
	if !ok {
		return nil, ErrNotLocal
	}
	parts, err := split(r.key[:], k, n)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecovery, err)
	}
	id, err := localID(r.key[:])
	if err != nil {
		return nil, err
	}
	var out []string
	for i, p := range parts {
		b := append([]byte{shareVersion, byte(k), byte(n), byte(i + 1)}, id...)
		out = append(out, shareText(append(b, p...)))
		clear(p)
	}
	return out, nil
}

// JoinRoot brings a root key back from shares, and proves by its id that it is the one that was split.
func JoinRoot(shares []string) (Root, error) {
	key, err := joinShares(shares)
	if err != nil {
		return nil, fmt.Errorf("bring shares together: %w", err)
	}
	defer clear(key)
	return newLocalRoot(key)
}

func joinShares(shares []string) ([]byte, error) {
	var first []byte
	var xs []byte
	var parts [][]byte
	for i, text := range shares {
		b, err := parseShare(text)
		if err != nil {
			return nil, fmt.Errorf("share %d of those given: %w", i+1, err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(b[:3], first[:3]) || !bytes.Equal(b[4:4+localIDSize], first[4:4+localIDSize]) {
			return nil, fmt.Errorf("share %d of those given belongs to another root key, or to another splitting of it", i+1)
		}
		if bytes.IndexByte(xs, b[3]) >= 0 {
			return nil, fmt.Errorf("share %d of those given is there twice", i+1)
		}
		xs, parts = append(xs, b[3]), append(parts, b[4+localIDSize:])
	}
	if first == nil || len(xs) < int(first[1]) {
		need := 2
		if first != nil {
			need = int(first[1])
		}
		return nil, fmt.Errorf("%d shares are needed, and there are %d", need, len(xs))
	}
	key := combine(xs, parts)
	if id, err := localID(key); err != nil || !bytes.Equal(id, first[4:4+localIDSize]) {
		clear(key)
		return nil, errors.New("they do not give the root key: one of them is of another splitting")
	}
	return key, nil
}

// EncryptRoot seals a root key to age recipients (age1..., age1pq1...), as armored text. age lies outside Go's FIPS 140-3 module, so
// it is refused while that is on: take shares.
func EncryptRoot(root Root, recipients []string) ([]byte, error) {
	r, ok := root.(*localRoot)
	switch {
	case !ok:
		return nil, ErrNotLocal
	case fips140.Enabled():
		return nil, fmt.Errorf("%w: %s", ErrRecovery, "age uses ChaCha20-Poly1305, which lies outside the FIPS 140-3 module: split the key into shares instead")
	}
	var to []age.Recipient
	for _, one := range recipients {
		list, err := age.ParseRecipients(strings.NewReader(one))
		if err != nil {
			return nil, fmt.Errorf("%w: %s", ErrRecovery, "a recipient is none that age knows: it looks like age1…, and is not the identity (AGE-SECRET-KEY-…)")
		}
		to = append(to, list...)
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("%w: there is no recipient", ErrRecovery)
	}
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, to...)
	if err != nil {
		return nil, fmt.Errorf("seal the root key to its recipients: %w", err)
	}
	text := rootText(r.key[:])
	defer clear(text)
	if _, err = w.Write(text); err == nil {
		if err = w.Close(); err == nil {
			err = a.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("seal the root key to its recipients: %w", err)
	}
	return out.Bytes(), nil
}

// DecryptRoot brings a root key back from what EncryptRoot made. identities is the text of an age identity file.
func DecryptRoot(sealed []byte, identities string) (Root, error) {
	ids, err := age.ParseIdentities(strings.NewReader(identities))
	if err != nil {
		return nil, errors.New("open recovery copy: the identity file is none that age knows") // its error quotes the line
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), ids...)
	if err != nil {
		return nil, fmt.Errorf("open recovery copy: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxRootFile))
	if err != nil {
		return nil, fmt.Errorf("open recovery copy: %w", err)
	}
	defer clear(text)
	key, err := parseRootText(text)
	if err != nil {
		return nil, fmt.Errorf("open recovery copy: it %w", err)
	}
	defer clear(key)
	return newLocalRoot(key)
}

// SaveFileRoot writes a root key that came back from a recovery copy into a root key file. It never overwrites.
func SaveFileRoot(root Root, path string) error {
	r, ok := root.(*localRoot)
	if !ok {
		return ErrNotLocal
	}
	if err := writeRootFile(path, r.key[:]); err != nil {
		return fmt.Errorf("write root key: %w", err)
	}
	return nil
}

// A Recovery says which recovery copy there is. It holds nothing of the key.
type Recovery struct {
	Version   int       `json:"version"`
	Root      string    `json:"root"`             // Root.ID of the key that was copied
	How       string    `json:"how"`              // "shares" or "age"
	Needed    int       `json:"needed,omitempty"` // of shares
	Shares    int       `json:"shares,omitempty"`
	Made      time.Time `json:"made"`
	Confirmed time.Time `json:"confirmed,omitzero"` // when the copy was tried and gave the key
}

const recoveryFile = "recovery.json"

// ReadRecovery reads what is known of the recovery copy from a key store's directory. The zero value: none was made.
func ReadRecovery(store string) (r Recovery, err error) {
	text, err := os.ReadFile(filepath.Join(store, recoveryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Recovery{}, nil
	}
	if err == nil && json.Unmarshal(text, &r) != nil {
		err = errors.New("it is damaged; make a new recovery copy")
	}
	if err != nil {
		return Recovery{}, fmt.Errorf("read what is known of the recovery copy: %w", err)
	}
	return r, nil
}

// WriteRecovery keeps it.
func WriteRecovery(store string, r Recovery) error {
	r.Version = 1
	text, err := json.Marshal(r)
	if err == nil {
		err = replaceFile(filepath.Join(store, recoveryFile), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep what is known of the recovery copy: %w", err)
	}
	return nil
}

// Covers says whether a tried recovery copy of this root key exists.
func (r Recovery) Covers(rootID string) bool { return r.Root == rootID && !r.Confirmed.IsZero() }

// FileRootID tells the id of the root key in a file without opening a ring, or "".
func FileRootID(path string) string {
	r, _, err := FileRoots(path)
	if err != nil {
		return ""
	}
	return r.ID()
}

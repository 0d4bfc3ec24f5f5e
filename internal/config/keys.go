package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"go.yaml.in/yaml/v4"
)

// Keys says where the key that wraps all others is, and where the wrapped ones lie.
type Keys struct {
	Root    Root          `key:"root" doc:"The root key, which wraps the data keys; without it nothing stored can be read. Needed by the service. file:PATH (mode 0600), passphrase:env:NAME, passphrase:file:PATH or passphrase:prompt, credential:NAME (systemd), openbao:KEY or vault:KEY (with transit below), awskms:ARN."`
	Former  []Root        `key:"former" doc:"Root keys that some data keys may still be under, after root was changed for another one. The next start puts all data keys under root; remove these then."`
	Store   File          `key:"store" doc:"The folder of the wrapped data keys. Not in the database, nor in its backups: a copied key cannot be destroyed."`
	Grace   time.Duration `key:"grace" doc:"How long the service goes on with the data keys in memory when the root key is out of reach. After that nothing is taken, delivered or shown until it is back."`
	Transit *Transit      `key:"transit" doc:"Where the transit engine of OpenBao or Vault is, for a root openbao:KEY or vault:KEY."`
	AWS     KeysAWS       `key:"aws" doc:"For a root awskms:ARN. The identity is found as the AWS SDK does: environment, shared files, the machine's role."`
}

// Transit says where a transit engine is and how to sign in: by a token, or by an AppRole.
type Transit struct {
	Address   Text          `key:"address" required:"true" doc:"https://HOST:PORT. http only on this machine."`
	Namespace Text          `key:"namespace" doc:"The namespace, where there are some."`
	Mount     Text          `key:"mount" doc:"Where the engine is mounted."`
	CA        File          `key:"ca" doc:"Who signed the server's certificate, as PEM. Not given: whom the system trusts."`
	Token     Secret        `key:"token" doc:"A token: env:NAME or file:PATH. The file is read before each use, so that an agent may renew it."`
	Role      Text          `key:"role" doc:"The role_id of an AppRole, in place of a token."`
	Secret    Secret        `key:"secret" doc:"Its secret_id: env:NAME or file:PATH."`
	AuthMount Text          `key:"auth_mount" doc:"Where AppRole is mounted."`
	Timeout   time.Duration `key:"timeout" doc:"How long one try may take. There are three."`
}

func (t *Transit) setDefaults() {
	t.Mount, t.AuthMount, t.Timeout = "transit", "approle", 10*time.Second
}

func (t *Transit) verify(r *reader, n *yaml.Node, key string) {
	token, role := !t.Token.IsZero(), t.Role != "" || !t.Secret.IsZero()
	if token == role {
		r.fail(n, key, "needs one way to sign in", "give token, or role and secret")
	} else if role && (t.Role == "" || t.Secret.IsZero()) {
		r.fail(n, key, "has half of an AppRole", "give both role and secret")
	}
}

// KeysAWS is what AWS KMS may need beside its key's ARN.
type KeysAWS struct {
	Endpoint Text `key:"endpoint" doc:"Another endpoint than the region's, such as that of a VPC: https://HOST."`
}

// A Root says which root key it is. It holds no secret: that of a passphrase is a reference.
type Root struct {
	Kind       string // "file", "passphrase", "credential", "openbao", "vault", "awskms"; "" for none
	Name       string // a path, a credential's or a key's name, an ARN
	Passphrase Secret // of kind passphrase; none: it is asked for
}

// File is the path of a root of kind file, and "" for others.
func (r Root) File() string {
	if r.Kind == "file" {
		return r.Name
	}
	return ""
}

// String is the reference as it is written.
func (r Root) String() string {
	switch {
	case r.Kind == "passphrase" && r.Passphrase.IsZero():
		return "passphrase:prompt"
	case r.Kind == "passphrase":
		return "passphrase:" + r.Passphrase.String()
	case r.Kind == "":
		return ""
	}
	return r.Kind + ":" + r.Name
}

// The forms of a root key.
const (
	rootPattern = `^(file:[^\r\n\x00]+|passphrase:(prompt|env:[^=\s]+|file:[^\r\n\x00]+)|credential:[A-Za-z0-9_.-]+|(openbao|vault):[A-Za-z0-9][A-Za-z0-9._-]*|awskms:arn:[^\s]+|[./][^\r\n\x00]*|[^:\r\n\x00]+)$`
	rootNext    = "write file:PATH, passphrase:env:NAME, credential:NAME, openbao:KEY, vault:KEY or awskms:ARN"
)

var rootKind = regexp.MustCompile(`^(file|passphrase|credential|openbao|vault|awskms):(.*)$`)

func (r *Root) read(in *reader, n *yaml.Node, key string) {
	text, ok := in.scalar(n, key, "a root key", rootNext)
	if !ok {
		return
	}
	if !in.matches(rootPattern, text) {
		in.fail(n, key, "is no root key", rootNext)
		return
	}
	m := rootKind.FindStringSubmatch(text)
	switch {
	case m == nil: // a bare path
		*r = Root{Kind: "file", Name: text}
	case m[1] == "passphrase" && m[2] == "prompt":
		*r = Root{Kind: "passphrase"}
	case m[1] == "passphrase":
		*r = Root{Kind: "passphrase", Passphrase: ParseSecret(m[2])}
	default:
		*r = Root{Kind: m[1], Name: m[2]}
	}
}

func (*Root) schema() map[string]any {
	return map[string]any{"title": "root key", "type": "string", "pattern": rootPattern}
}

func (k *Keys) settle(dir string) {
	roots := []*Root{&k.Root}
	for i := range k.Former {
		roots = append(roots, &k.Former[i])
	}
	for _, r := range roots {
		r.Passphrase.dir = dir
		if r.Kind == "file" {
			path := File(r.Name)
			path.under(dir)
			r.Name = string(path)
		}
	}
	if t := k.Transit; t != nil {
		t.Token.dir, t.Secret.dir = dir, dir
		t.CA.under(dir)
	}
}

func (k *checker) rootKey() {
	keys := &k.c.Keys
	k.privateFolder("keys.store", string(keys.Store))
	if data := k.dataPath(); k.c.Database.Kind == "sqlite" && within(data, string(keys.Store)) {
		k.add(Warning, "keys.store", "holds the database's file too: a backup of that folder keeps keys that can then never be destroyed", "give keys.store a folder of its own")
	}
	switch keys.Root.Kind {
	case "file":
		k.rootFile()
	case "passphrase":
		k.secret("keys.root", keys.Root.Passphrase, "ROOT_PASSPHRASE")
		if path := keys.Root.Passphrase.path(); path != "" {
			k.sameDisk("keys.root", path, "the passphrase's file")
		}
	case "openbao", "vault":
		if keys.Transit == nil {
			k.add(Error, "keys.root", "is in a transit engine, and keys.transit does not say where that is", "add keys: {transit: {address: …, token: …}}")
			break
		}
		k.secret("keys.transit.token", keys.Transit.Token, "VAULT_TOKEN")
		k.secret("keys.transit.secret", keys.Transit.Secret, "VAULT_SECRET_ID")
		k.authorities("keys.transit.ca", string(keys.Transit.CA))
		k.met()
	case "awskms":
		k.met()
	}
	if len(keys.Former) > 0 {
		k.add(Warning, "keys.former", "root keys that were replaced are still named", `when "lazaret key status" shows that root-changed is done, remove them here and destroy them`)
	}
}

// met says of a root elsewhere that we have tested against a double only.
func (k *checker) met() {
	k.add(Warning, "keys.root", "is in a service that Lazaret's own tests know only as a double, written from its API's text", `run "lazaret key check" against yours; "lazaret key status" says when that went well`)
}

func (k *checker) dataPath() string {
	if k.c.Database.Kind == "sqlite" {
		return k.c.Database.Path
	}
	return string(k.c.Data)
}

func (k *checker) sameDisk(key, path, what string) {
	if same, known := sameDevice(path, k.dataPath()); known && same {
		k.add(Warning, key, what+" lies on the same file system as the data: it does not protect a disk that is stolen or a copy of all of it",
			"keep it on a device of its own, or use a key management service; encryption at rest does not count as met like this")
	}
}

// rootFile looks at a root key that lies in a file.
func (k *checker) rootFile() {
	root := k.c.Keys.Root.File()
	const key = "keys.root"
	info, err := os.Stat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if entries, err := os.ReadDir(string(k.c.Keys.Store)); err == nil && len(entries) > 0 {
			k.add(Error, key, "does not exist, but keys.store holds keys that it wrapped: without it nothing stored can be read", "bring it back from where it is kept, or correct the path")
		} else {
			k.add(Warning, key, "does not exist yet", "the first start makes it; if there is one already, correct the path")
		}
	case err != nil:
		k.add(Error, key, "cannot be read: "+plain(err), "check the path and who may read it")
	case !info.Mode().IsRegular():
		k.add(Error, key, "is not a file", "write file:PATH of a file")
	case info.Mode().Perm()&0o077 != 0:
		k.add(Error, key, "is a file that others than its owner may read", "chmod 0600 "+root)
	default:
		if f, err := os.Open(root); err != nil {
			k.add(Error, key, "cannot be read: "+plain(err), "check who may read it")
		} else {
			_ = f.Close() // opened for reading only
		}
	}
	k.privateFolder(key, filepath.Dir(root))
	data := k.dataPath()
	if same, known := sameDevice(root, data); known && same {
		k.add(Warning, key, "lies on the same file system as the data: it does not protect a disk that is stolen or a copy of all of it",
			"keep the key on a device of its own, or in a key management service; encryption at rest does not count as met like this")
	}
}

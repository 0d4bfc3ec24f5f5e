package kms_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/lazaret-health/lazaret/internal/kms"
)

const inventedARN = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"

// awsDouble answers as the API text of AWS KMS says (AWS JSON 1.1): Encrypt, Decrypt, ReEncrypt.
type awsDouble struct {
	mu     sync.Mutex
	drawer map[string]awsKept
	asked  []string
	fault  func(n int, w http.ResponseWriter) bool
}

type awsKept struct {
	plain   []byte
	context map[string]string
}

func (d *awsDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	op, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	d.asked = append(d.asked, op)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if d.fault != nil && d.fault(len(d.asked), w) {
		return
	}
	var in struct {
		KeyID                        string `json:"KeyId"`
		SourceKeyID                  string `json:"SourceKeyId"`
		DestinationKeyID             string `json:"DestinationKeyId"`
		Plaintext, CiphertextBlob    []byte
		EncryptionContext            map[string]string
		SourceEncryptionContext      map[string]string
		DestinationEncryptionContext map[string]string
	}
	if json.NewDecoder(r.Body).Decode(&in) != nil || !strings.Contains(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256") {
		awsRefuse(w, "MissingAuthenticationTokenException")
		return
	}
	keep := func(k awsKept) []byte {
		name := fmt.Sprintf("blob %d", len(d.drawer))
		d.drawer[name] = k
		return []byte(name)
	}
	find := func(context map[string]string) (awsKept, bool) {
		k, ok := d.drawer[string(in.CiphertextBlob)]
		return k, ok && maps.Equal(k.context, context)
	}
	switch {
	case op == "Encrypt" && in.KeyID == inventedARN:
		json.NewEncoder(w).Encode(map[string]any{"CiphertextBlob": keep(awsKept{in.Plaintext, in.EncryptionContext}), "KeyId": in.KeyID})
	case op == "Decrypt" && in.KeyID == inventedARN:
		if k, ok := find(in.EncryptionContext); ok {
			json.NewEncoder(w).Encode(map[string]any{"Plaintext": k.plain, "KeyId": in.KeyID})
			return
		}
		awsRefuse(w, "InvalidCiphertextException")
	case op == "ReEncrypt" && in.SourceKeyID == inventedARN && in.DestinationKeyID == inventedARN:
		if k, ok := find(in.SourceEncryptionContext); ok {
			json.NewEncoder(w).Encode(map[string]any{"CiphertextBlob": keep(awsKept{k.plain, in.DestinationEncryptionContext})})
			return
		}
		awsRefuse(w, "InvalidCiphertextException")
	default:
		awsRefuse(w, "NotFoundException")
	}
}

func awsRefuse(w http.ResponseWriter, code string) {
	w.WriteHeader(400)
	json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "an invented text that nobody should repeat"})
}

func awsRoot(t *testing.T) (*kms.AWS, *awsDouble) {
	t.Helper()
	d := &awsDouble{drawer: map[string]awsKept{}}
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	root, err := kms.NewAWS(t.Context(), kms.AWSConfig{ARN: inventedARN, Endpoint: srv.URL, Timeout: 300 * time.Millisecond,
		Identity: credentials.NewStaticCredentialsProvider("INVENTED", "invented", "")})
	if err != nil {
		t.Fatal(err)
	}
	return root, d
}

func TestAWSWrapsUnwrapsAndRewraps(t *testing.T) {
	root, d := awsRoot(t)
	key, aad := []byte("an invented key of 32 characters"), []byte("what is said about it")
	wrapped, err := root.Wrap(t.Context(), key, aad)
	if err != nil {
		t.Fatal(err)
	}
	again, err := root.Rewrap(t.Context(), wrapped, aad)
	if err != nil || bytes.Equal(again, wrapped) {
		t.Fatalf("rewrapped to %q, %v", again, err)
	}
	for _, w := range [][]byte{wrapped, again} {
		if back, err := root.Unwrap(t.Context(), w, aad); err != nil || !bytes.Equal(back, key) {
			t.Errorf("unwrapped %q, %v", back, err)
		}
		if _, err := root.Unwrap(t.Context(), w, []byte("another key's name")); !errors.Is(err, kms.ErrNotOurs) {
			t.Errorf("under another name: %v, want ErrNotOurs", err)
		}
	}
	for _, k := range d.drawer {
		if len(k.context) != 1 || strings.Contains(fmt.Sprint(k.context), "said about") {
			t.Errorf("the encryption context shows %v", k.context)
		}
	}
}

func TestAWSFailsWithAReason(t *testing.T) {
	refuse := func(code string) func(int, http.ResponseWriter) bool {
		return func(_ int, w http.ResponseWriter) bool { awsRefuse(w, code); return true }
	}
	for _, c := range []struct {
		name  string
		fault func(int, http.ResponseWriter) bool
		want  error
		asked int
	}{
		{"refused, it does not try again", refuse("AccessDeniedException"), kms.ErrDenied, 1},
		{"an expired identity is a refusal", refuse("ExpiredTokenException"), kms.ErrDenied, 1},
		{"a missing key is named", refuse("NotFoundException"), kms.ErrNoKey, 1},
		{"a key that is to be deleted is not in use", refuse("KMSInvalidStateException"), kms.ErrNoKey, 1},
		{"too many requests are tried again", refuse("ThrottlingException"), kms.ErrUnreachable, 3},
		{"an outage is tried again", func(_ int, w http.ResponseWriter) bool { w.WriteHeader(503); return true }, kms.ErrUnreachable, 3},
		{"garbage is no answer", func(_ int, w http.ResponseWriter) bool { fmt.Fprint(w, "<html>"); return true }, kms.ErrUnreachable, 0},
		{"an empty answer is none", func(_ int, w http.ResponseWriter) bool { fmt.Fprint(w, "{}"); return true }, kms.ErrUnreachable, 1},
		{"slow beyond its time it is given up", func(int, http.ResponseWriter) bool { time.Sleep(500 * time.Millisecond); return true }, kms.ErrUnreachable, 0},
		{"what works at the third try has worked", func(n int, w http.ResponseWriter) bool {
			if n < 3 {
				w.WriteHeader(503)
			}
			return n < 3
		}, nil, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root, d := awsRoot(t)
			d.fault = c.fault
			_, err := root.Wrap(t.Context(), []byte("key"), nil)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "nobody should repeat") {
				t.Errorf("the error repeats what the service wrote: %v", err)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if c.asked > 0 && len(d.asked) != c.asked {
				t.Errorf("asked %d times, want %d", len(d.asked), c.asked)
			}
		})
	}
}

func TestAWSWantsAKeyAndNoAlias(t *testing.T) {
	for _, bad := range []string{"", "alias/lazaret", "arn:aws:kms:eu-central-1:123456789012:alias/lazaret", "arn:aws:s3:::bucket"} {
		if _, err := kms.NewAWS(t.Context(), kms.AWSConfig{ARN: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

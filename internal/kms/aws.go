package kms

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
)

// AWSConfig names a key of AWS KMS. ARN is required.
type AWSConfig struct {
	ARN      string // of a symmetric key, never of an alias: what an alias points to may change
	Endpoint string // another than the region's, for a VPC; https, or http on this machine
	Timeout  time.Duration
	Identity aws.CredentialsProvider // nil: environment, shared files, or the machine's role, as the AWS SDK looks for them
}

// An AWS is a root key in AWS KMS. Its identity needs kms:Encrypt, kms:Decrypt, kms:ReEncryptFrom and kms:ReEncryptTo.
type AWS struct {
	arn string
	kms *kms.Client
}

var arn = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+$`)

// NewAWS looks for an identity. It asks KMS nothing yet.
func NewAWS(ctx context.Context, c AWSConfig) (*AWS, error) {
	m := arn.FindStringSubmatch(c.ARN)
	if m == nil {
		return nil, errors.New("aws kms: name the key by its ARN: arn:aws:kms:REGION:ACCOUNT:key/ID")
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	options := []func(*config.LoadOptions) error{
		config.WithRegion(m[1]), config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(c.Timeout)),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = tries, 2*time.Second })
		}),
	}
	if c.Identity != nil {
		options = append(options, config.WithCredentialsProvider(c.Identity))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("aws kms: no identity: %w", err)
	}
	return &AWS{arn: c.ARN, kms: kms.NewFromConfig(cfg, func(o *kms.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
	})}, nil
}

// ID is the key's ARN.
func (a *AWS) ID() string { return "awskms-" + a.arn }

func (a *AWS) String() string   { return a.ID() }
func (a *AWS) GoString() string { return a.ID() }

// encryptionContext is authenticated by KMS, and stands in CloudTrail: a digest tells nothing there.
func encryptionContext(aad []byte) map[string]string {
	sum := sha256.Sum256(aad)
	return map[string]string{"lazaret": base64.StdEncoding.EncodeToString(sum[:])}
}

// Wrap encrypts a data key.
func (a *AWS) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	out, err := a.kms.Encrypt(ctx, &kms.EncryptInput{KeyId: &a.arn, Plaintext: plaintext, EncryptionContext: encryptionContext(aad)})
	if err != nil {
		return nil, fmt.Errorf("aws kms encrypt: %w", awsError(err))
	}
	if len(out.CiphertextBlob) == 0 {
		return nil, fmt.Errorf("aws kms encrypt: %w: its answer holds no ciphertext", ErrUnreachable)
	}
	return out.CiphertextBlob, nil
}

// Unwrap decrypts it.
func (a *AWS) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	out, err := a.kms.Decrypt(ctx, &kms.DecryptInput{KeyId: &a.arn, CiphertextBlob: wrapped, EncryptionContext: encryptionContext(aad)})
	if err != nil {
		return nil, fmt.Errorf("aws kms decrypt: %w", awsError(err))
	}
	if len(out.Plaintext) == 0 {
		return nil, fmt.Errorf("aws kms decrypt: %w: its answer holds no plaintext", ErrUnreachable)
	}
	return out.Plaintext, nil
}

// Rewrap has KMS put a wrapped key under the newest material of its key, without showing it to us.
func (a *AWS) Rewrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	ec := encryptionContext(aad)
	out, err := a.kms.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: wrapped, SourceKeyId: &a.arn, DestinationKeyId: &a.arn,
		SourceEncryptionContext: ec, DestinationEncryptionContext: ec})
	if err != nil {
		return nil, fmt.Errorf("aws kms re-encrypt: %w", awsError(err))
	}
	if len(out.CiphertextBlob) == 0 {
		return nil, fmt.Errorf("aws kms re-encrypt: %w: its answer holds no ciphertext", ErrUnreachable)
	}
	return out.CiphertextBlob, nil
}

// awsError gives an error its class by the code in the API's text, and leaves the message out.
func awsError(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		var timeout interface{ Timeout() bool }
		if errors.As(err, &timeout) && timeout.Timeout() {
			return fmt.Errorf("%w in time", ErrUnreachable)
		}
		if errors.Is(err, context.Canceled) {
			return context.Canceled
		}
		return fmt.Errorf("%w: no identity, no network, or an answer that is not its own", ErrUnreachable)
	}
	switch code := api.ErrorCode(); code {
	case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException",
		"MissingAuthenticationTokenException", "InvalidGrantTokenException":
		return fmt.Errorf("%w (%s): the identity or the key's policy", ErrDenied, code)
	case "NotFoundException", "DisabledException", "KMSInvalidStateException", "InvalidKeyUsageException", "InvalidArnException":
		return fmt.Errorf("%w (%s)", ErrNoKey, code)
	case "InvalidCiphertextException", "IncorrectKeyException":
		return fmt.Errorf("%w (%s)", ErrNotOurs, code)
	case "ThrottlingException", "LimitExceededException", "DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException":
		return fmt.Errorf("%w (%s)", ErrUnreachable, code)
	default:
		return fmt.Errorf("%w (an error that this build does not know)", ErrUnreachable)
	}
}

// Package s3 is a mirror.Bucket by the protocol of Amazon S3, which MinIO, Ceph,
// SeaweedFS, Cloudflare R2 and Google Cloud Storage (with HMAC keys) speak, too.
//
// Its one idea: who this program is comes from its surroundings, never from a
// configuration file. In this order: AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY and
// AWS_SESSION_TOKEN; the file that AWS_SHARED_CREDENTIALS_FILE names (~/.aws/credentials)
// with AWS_PROFILE; a web identity (AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, as
// Kubernetes service accounts have it on EKS) or a container's credentials
// (AWS_CONTAINER_CREDENTIALS_FULL_URI); the machine's role.
//
// The package makes no bucket and changes no setting of one.
package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/agrdist/agrdist/checkpoint/mirror"
)

// Config is a place in a bucket.
type Config struct {
	Bucket, Prefix string
	// Endpoint is the URL of the server, http or https; empty: that of AWS_ENDPOINT_URL_S3
	// or AWS_ENDPOINT_URL, else Amazon's.
	Endpoint string
	// Region; empty: that of AWS_REGION or AWS_DEFAULT_REGION, else what the server says.
	Region string
	// PathStyle addresses the bucket in the path, not in the host's name. Servers other
	// than Amazon's and Google's always get it.
	PathStyle bool
}

// Bucket implements mirror.Bucket.
type Bucket struct {
	client         *minio.Client
	bucket, prefix string
}

var _ mirror.Bucket = (*Bucket)(nil)

// partBytes is the size of the parts of a large upload.
const partBytes = 16 << 20

// Open returns a bucket. It sends nothing yet.
func Open(c Config) (*Bucket, error) {
	server := cmp.Or(c.Endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com")
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("the endpoint is %q; write https://HOST or http://HOST:PORT", server)
	}
	if err := s3utils.CheckValidBucketName(c.Bucket); err != nil {
		return nil, fmt.Errorf("the bucket is %q: %w", c.Bucket, err)
	}
	lookup := minio.BucketLookupAuto
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: http.DefaultClient},
		}),
		Secure: u.Scheme == "https", Region: cmp.Or(c.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
		BucketLookup: lookup,
		MaxRetries:   3, // whoever calls tries again, and says so
	})
	if err != nil {
		return nil, err
	}
	return &Bucket{client: client, bucket: c.Bucket, prefix: strings.Trim(c.Prefix, "/")}, nil
}

// String is s3://BUCKET/PREFIX.
func (b *Bucket) String() string { return "s3://" + path.Join(b.bucket, b.prefix) }

func (b *Bucket) key(k string) string {
	if b.prefix == "" {
		return k
	}
	return b.prefix + "/" + k
}

// Put implements mirror.Bucket. Large files go in parts, one after another: the network
// is the gradients' first.
func (b *Bucket) Put(ctx context.Context, key, file string) error {
	_, err := b.client.FPutObject(ctx, b.bucket, b.key(key), file, minio.PutObjectOptions{
		ContentType: "application/octet-stream", PartSize: partBytes, NumThreads: 1,
	})
	return b.failed("store "+key, err)
}

// Get implements mirror.Bucket.
func (b *Bucket) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	// One request, whose answer says what is missing: the object or the bucket.
	o, _, _, err := minio.Core{Client: b.client}.GetObject(ctx, b.bucket, b.key(key), minio.GetObjectOptions{})
	if err != nil {
		return nil, b.failed("read "+key, err)
	}
	return &object{o, b, key}, nil
}

// object gives errors of reading the form of others.
type object struct {
	io.ReadCloser
	bucket *Bucket
	key    string
}

func (o *object) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = o.bucket.failed("read "+o.key, err)
	}
	return n, err
}

// List implements mirror.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) (out []mirror.Object, err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the listing where an error does
	defer cancel()
	for o := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.key(prefix), Recursive: true}) {
		if o.Err != nil {
			return nil, b.failed("list", o.Err)
		}
		out = append(out, mirror.Object{Key: strings.TrimPrefix(o.Key, b.key("")), Size: o.Size})
	}
	return out, nil
}

// Delete implements mirror.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	err := b.failed("remove "+key, b.client.RemoveObject(ctx, b.bucket, b.key(key), minio.RemoveObjectOptions{}))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Abort implements mirror.Bucket.
func (b *Bucket) Abort(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for o := range b.client.ListIncompleteUploads(ctx, b.bucket, b.key("step-"), true) {
		if o.Err != nil {
			return b.failed("list unfinished uploads", o.Err)
		}
		if err := b.client.RemoveIncompleteUpload(ctx, b.bucket, o.Key); err != nil {
			return b.failed("remove an unfinished upload", err)
		}
	}
	return nil
}

// failed makes a *mirror.Error of what the server answered. What is wrong with the local
// file stays what it is.
func (b *Bucket) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, local := errors.AsType[*fs.PathError](err); local {
		return err
	}
	e := &mirror.Error{Place: b.String(), Op: op, Err: err}
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		return e
	}
	switch answer.Code {
	case minio.NoSuchKey:
		return fmt.Errorf("%s: %s: %w", b, op, fs.ErrNotExist)
	case minio.NoSuchBucket:
		e.Err, e.Permanent = errors.New("there is no such bucket"), true
		e.Advice = fmt.Sprintf("make the bucket %s first, or name another", b.bucket)
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException":
		e.Permanent = true
		e.Advice = "give the bucket's region, as ?region=eu-central-1 or AWS_REGION"
	default:
		// The last is what the Versity gateway calls an unknown key.
		if s := answer.StatusCode; s == http.StatusUnauthorized || s == http.StatusForbidden || answer.Code == "XAdminUserNotFound" {
			e.Permanent = true
			e.Advice = "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the service account's role) and that they may list, read, write and delete there"
		}
	}
	return e
}

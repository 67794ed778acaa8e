package security

import (
	"encoding/base64"

	"golang.org/x/crypto/argon2"
)

// Argon2id's cost, the second recommendation of RFC 9106, section 4: about 0.1 s and
// 64 MiB, once on each node. Trying all of a list of passphrases takes that long for
// each of them.
const (
	stretchTime    = 3
	stretchMemory  = 64 << 10 // KiB
	stretchThreads = 4
)

// Stretch makes a secret of what a person has chosen, by Argon2id (RFC 9106). Whoever
// listens to a handshake can try secrets on what he has heard: a passphrase alone would
// be found at billions of tries a second. The result is text like GenerateSecret's, the
// same on all nodes of the run. A secret of GenerateSecret gains nothing by it.
func Stretch(secret []byte, runID string) []byte {
	key := argon2.IDKey(secret, []byte("agrdist/v1 "+runID), stretchTime, stretchMemory, stretchThreads, KeySize)
	return base64.RawURLEncoding.AppendEncode(nil, key)
}

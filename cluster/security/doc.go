// Package security turns one shared secret into everything that the processes of a
// run need to trust each other: a gossip key, a data-plane key, and mutual TLS for gRPC.
//
// The one idea: there is nothing to distribute but the secret. HKDF-SHA256
// (RFC 5869) derives independent keys from it, among them the ed25519 seed of a
// certificate authority. Every process therefore owns the same authority, issues
// itself a short-lived certificate in memory, and accepts exactly the peers that
// could do the same:
//
//	secret ─┬─ HKDF("gossip", run id) ── 32 bytes, AES-256-GCM of memberlist
//	        ├─ HKDF("data",   run id) ── 32 bytes, keys of the gradient connections
//	        └─ HKDF("ca") ── ed25519 authority ── leaf {URI agrdist://RUN/NODE}
//
// A secret is random (GenerateSecret), or text that a person has chosen and Stretch has
// made expensive to guess. A run on the loopback interface makes its own, which other
// processes of the same user find in files that nobody else can read (KeepSecret,
// PublishLocal). Guard bounds what strangers can take from a gRPC listener.
//
// The run id stands in the certificate and in the derivation of the other keys,
// so two runs that share a secret do not mix either.
//
// What it does not do: a shared secret proves membership, not identity. The node
// name in a certificate is a claim of somebody who holds the secret; whoever may
// do more than others must be authorised by other means. Nothing is revoked: to
// shut somebody out, change the secret. Nothing may listen beyond the loopback
// interface without a secret; see RequireSecretBeyondLoopback.
package security

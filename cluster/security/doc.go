// Package security turns one shared secret into everything a run needs to talk
// beyond one host: a gossip key, a data-plane key, and mutual TLS for gRPC.
//
// The one idea: there is nothing to distribute but the secret. HKDF-SHA256
// (RFC 5869) derives independent keys from it, among them the ed25519 seed of a
// certificate authority. Every process therefore owns the same authority, issues
// itself a short-lived certificate in memory, and accepts exactly the peers that
// could do the same:
//
//	secret ─┬─ HKDF("gossip", run id) ── 32 bytes, AES-256-GCM of memberlist
//	        ├─ HKDF("data",   run id) ── 32 bytes, HMAC of the gradient sockets
//	        └─ HKDF("ca") ── ed25519 authority ── leaf {URI agrdist://RUN/NODE}
//
// The run id stands in the certificate and in the derivation of the other keys,
// so two runs that share a secret do not mix either.
//
// What it does not do: a shared secret proves membership, not identity. The node
// name in a certificate is a claim of somebody who holds the secret; whoever may
// do more than others must be authorised by other means. Nothing is revoked: to
// shut somebody out, change the secret. A run without a secret stays on the
// loopback interface; see RequireSecretBeyondLoopback.
package security

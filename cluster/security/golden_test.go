package security

// Computed apart from this package, by RFC 5869 and RFC 8032 in Python, for the
// secret "correct horse battery staple" and the run "run". A change here means
// that builds no longer talk to each other, which takes a new hkdfSalt.
const (
	goldenGossip    = "8e18c59c08f2d82face7c3319f6b06b22005f93beddc9a1978f2273994a76472"
	goldenData      = "857aab50d51b076618c3c75b1d598ab951a9271606d4d6f40d22bc83a192d29b"
	goldenStretched = "427uy17suwxnGatPwnpC_YdGvcQn74H0Q3Gx0d-RUhg" // by argon2-cffi
	goldenCA        = "2403b76409c88753323de12ff9eab1bfc257e622c37c29af5329ef82aa494750"
)

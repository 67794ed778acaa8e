// Package sealed keeps small JSON documents on disk: who a node is, who was in a run.
//
// Its one idea: such a document is read back whole or not at all. It carries the
// SHA-256 of its own text in its last field, so that a changed bit or a missing end is
// an error and never another value; it is written beside its place, synced, and then
// renamed, so that a crash leaves the old one or the new one. Damage of any kind is one
// error, ErrDamaged; what to do about it only the owner of the document knows.
//
//	{
//	  "node": "trainer-0",
//	  "sha256": "9f86d081..."     of all that stands before this line's comma
//	}
//
// Documents without the field, which earlier versions wrote, are accepted when they are
// valid to the last byte.
//
// It is not a database and not for many writers: of two at once the last one wins.
package sealed

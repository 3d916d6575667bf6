// Package mail holds the words that all of Postern speaks: Session, Envelope,
// Path, Transaction, Message, Part, Reply, AuthResult. It reads messages and
// changes them; it opens no file, uses no network and decides nothing.
//
// A Message is read where it lies, in memory or in a file, by one pass over its
// lines that finds the header fields and the parts. Nothing is decoded, and
// hardly anything copied, until somebody asks: text, links, names, decoded
// content and hashes are each computed once, when first needed, and shared by
// all filters.
//
//	m := mail.Parse(file, size, mail.Options{})
//	for _, p := range m.Attachments() {
//		fmt.Println(p.ID(), p.Names(), p.MediaTypes(), p.Hash())
//	}
//
// # One tree
//
// Whatever a message holds is one tree of Parts: MIME parts, attached messages,
// files written into text with uuencode or yEnc, and what the Unpackers of
// Options make of attachments: members of archives, decrypted content. A
// PartID is the way through the tree: "2.1" is the first part of the second.
// Filters walk it without asking where a part comes from.
//
// # Every reading
//
// Mail clients disagree about messages that break the rules, and attackers write
// such messages so that the filter sees one thing and the reader another. So the
// parser reads them in every way that it knows of. The likeliest reading comes
// first; what others would see besides is there too: as more parts (Part.Reading
// reports true), as Part.MediaTypes, Part.Names and Part.Readings. To look at
// everything a reader may be shown, look at each part whose IsLeaf is true, at
// its Bytes or Open, and at its Readings. That a message can be read in several
// ways is itself a Finding of class Ambiguous.
//
// # Changes
//
// A Message never changes. An Editor makes a new one out of pieces of the old
// and new bytes; what was not touched stays identical to the byte.
//
// # Diagnostics
//
// Parse never fails. What is wrong with a message is in Message.Findings, whose
// kinds the table Findings explains. What cannot be read at all, because the
// file under the message fails, is in Message.Err and in the errors of
// Part.Bytes and Part.Open: without looking at these no verdict counts, for a
// part that could not be read looks empty. Limits end work, not the program:
// they leave a Finding of class Limit, and ErrLimit where content was asked for.
// Errors of ParsePath wrap ErrPath, those of an Editor wrap ErrEdit: there is
// no second-best result beside them.
package mail

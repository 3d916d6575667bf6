// Package spool keeps messages on disk from the moment the gateway has said 250
// until each recipient is done.
//
// # How it is used
//
// smtpd receives content into a Buffer: in memory while it is small, then in a
// file. Commit makes copies of a message durable, all or none. The queue lists
// entries, opens their Content, Updates their state after each attempt and
// Removes them when they are done.
//
// # What is on disk
//
//	lock       held by the one process that has the spool open
//	log/       segments, numbered: contents, entries and changes of their state
//	body/      contents that are too large for the log, one file each
//	tmp/       Buffers being received
//	corrupt/   what was damaged, set aside for people to look at
//
// The log is append-only. One goroutine writes it: it takes all that waits,
// writes it at once, syncs once, and answers all. A frame of the log is one step,
// whole or not at all: the copies of one commit stand in one frame. Contents
// that several copies share are written once.
//
// The oldest segment is removed when no live entry has its content there; when
// live entries hold up a log that is mostly dead, they are copied to its end.
//
// What is finished does not stay readable: Options.Linger after the first entry
// of a segment was done, or at once when Scrub asks for it, the log goes on in a
// new segment, and every older one that has something of a finished entry is
// removed. What lives there is copied to the end of the log first. They go from
// the oldest on, each durably before the next, so that a remove frame outlives
// the entry. A segment whose entries all live stays where it is: it has nothing
// to hide, and no remove frame anywhere is about it; state frames about it that
// would go are written again.
//
// # The states of an entry
//
// A crash is the end of the process at any instruction, or of the machine: then
// what was not synced may be on disk, in parts, in any order, or not.
//
//	state       on disk                            a crash there leaves        Open then
//	receiving   memory, or a file in tmp/          that file                   removes the file: the client was told nothing
//	buffered    the same, complete; during Commit  that file; or a file in     removes either: no frame refers to it
//	            synced and moved to body/          body/
//	committing  a frame, written, not synced       the frame, parts of it, or  takes a whole frame with whole contents for
//	                                               nothing                     committed (the client tries again and the mail
//	                                                                           comes twice), sets aside anything less
//	committed   a frame, synced; 250 is said       the frame                   lists the entry
//	due,        the same                           the frame                   lists the entry; it is due
//	delivering                                                                 (if the next hop has just taken it: twice)
//	deferred    a state frame after it; synced     both                        lists the entry with its new state; without the
//	            within a second                                                state frame with the one before: tried sooner
//	suspended   a state frame, synced              both                        lists the entry, suspended
//	done        a remove frame after it; synced    all of them                 forgets the entry; without the remove frame
//	            within a second; body/ removed                                 lists it: delivered twice, never lost
//	            after that
//	scrubbed    the segments are removed one by    some of them               lists what lives, once; of what is done no
//	            one, copies of what lives synced                              more than before
//	corrupt     what is left in corrupt/; a        either                      forgets the entry, or sets it aside again
//	            remove frame
//
// The tests stop the disk at every one of these steps and look what is left.
//
// # What it never does
//
// It never trusts a file after a failed sync: who waited for it is told so, the
// segment is given up, and the next one begins with a note that the end of the
// one before is void. It never loosens an entry's demands. It never guesses at a
// frame or an entry of another version. It never takes a mail for a frame: the
// mark at the head of frames is drawn at random for each segment.
//
// # Diagnostics
//
// ErrFull means that the disk is full or its free space below
// Options.Reserve: the client is told 452 4.3.1; it ends by itself when there is
// space. The log (slog, level ERROR) says once that the spool cannot write, and
// each time that something was set aside in corrupt/: name.frames is a stretch
// of the log, name.entry and name.content are an envelope and its content,
// other files there are bodies. Nothing in corrupt/ is ever read again; what
// cannot be used may be deleted.
package spool

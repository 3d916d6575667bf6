-- Who has written to whom: salted hashes of the addresses, and until when it is
-- kept, in seconds since 1970.
CREATE TABLE contact (
  author    BLOB NOT NULL,
  recipient BLOB NOT NULL,
  until     INTEGER NOT NULL,
  PRIMARY KEY (author, recipient)
) WITHOUT ROWID;

CREATE INDEX contact_recipient ON contact (recipient);
CREATE INDEX contact_until ON contact (until);

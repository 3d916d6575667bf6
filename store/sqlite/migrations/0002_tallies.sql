-- Counts of what was seen in a day, until they are reported. Days are text, as
-- in 2026-11-21.
CREATE TABLE subject (
  day    TEXT NOT NULL,
  name   TEXT NOT NULL,
  about  BLOB,
  rows   INTEGER NOT NULL,
  count  INTEGER NOT NULL,
  state  BLOB,
  closed INTEGER NOT NULL,
  PRIMARY KEY (day, name)
) WITHOUT ROWID;

CREATE TABLE tally (
  day   TEXT NOT NULL,
  name  TEXT NOT NULL,
  row   BLOB NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (day, name, row),
  FOREIGN KEY (day, name) REFERENCES subject (day, name) ON DELETE CASCADE
) WITHOUT ROWID;

-- The quarantine's index. The *_fold columns hold lower-case copies: SQLite
-- itself folds ASCII only. Times are microseconds since 1970, UTC.
CREATE TABLE held (
  id           TEXT PRIMARY KEY,
  tx           TEXT NOT NULL,
  queue        TEXT NOT NULL,
  direction    TEXT NOT NULL,
  rule         TEXT NOT NULL,
  state        TEXT NOT NULL,
  at           INTEGER NOT NULL,
  size         INTEGER NOT NULL,
  stored       INTEGER NOT NULL,
  score        REAL NOT NULL,
  author       TEXT NOT NULL,
  author_fold  TEXT NOT NULL,
  reverse      TEXT NOT NULL,
  reverse_fold TEXT NOT NULL,
  subject      TEXT NOT NULL,
  subject_fold TEXT NOT NULL,
  key          BLOB,
  sealed       BLOB,
  open         BLOB
);
CREATE INDEX held_queue ON held (queue, id);
CREATE INDEX held_at ON held (queue, at);
CREATE INDEX held_tx ON held (tx);
CREATE INDEX held_author ON held (author_fold);
CREATE INDEX held_reverse ON held (reverse_fold);

CREATE TABLE recipient (
  item     TEXT NOT NULL REFERENCES held (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  address  TEXT NOT NULL,
  fold     TEXT NOT NULL,
  state    TEXT NOT NULL,
  at       INTEGER NOT NULL,
  PRIMARY KEY (item, position)
) WITHOUT ROWID;
CREATE INDEX recipient_fold ON recipient (fold);

CREATE TABLE setting (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

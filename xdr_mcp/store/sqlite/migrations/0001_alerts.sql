-- Times are microseconds since 1970, UTC. JSON is UTF-8. What each table promises is told in interfaces.Store.

PRAGMA application_id = 1480872497; -- "XDR1": this file is ours

CREATE TABLE sources (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  lease TEXT NOT NULL DEFAULT '', -- name of the lease under which it was last written
  health BLOB NOT NULL DEFAULT x'7b7d',
  alerts INTEGER NOT NULL DEFAULT 0,
  quarantined INTEGER NOT NULL DEFAULT 0,
  samples INTEGER NOT NULL DEFAULT 0 -- lags ever measured; the newest are in lags
) STRICT;

-- The head of each alert, narrow: what a listing filters and sorts by. key follows created time (keys.py).
CREATE TABLE alerts (
  key INTEGER PRIMARY KEY,
  uid BLOB NOT NULL UNIQUE, -- blake2b-16 of the alert's id
  seq INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  severity INTEGER NOT NULL,
  status INTEGER NOT NULL,
  verdict INTEGER NOT NULL,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  first_seen INTEGER,
  last_seen INTEGER,
  risk_score INTEGER,
  confidence INTEGER,
  count INTEGER NOT NULL,
  digest BLOB NOT NULL
) STRICT;

-- The journal and the revisions in one: a row for each version of an alert. AUTOINCREMENT: a seq is never used again.
CREATE TABLE changes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  uid BLOB NOT NULL,
  revision INTEGER NOT NULL,
  before_seq INTEGER,
  kind TEXT NOT NULL,
  updated INTEGER NOT NULL,
  fetched INTEGER NOT NULL,
  saved INTEGER NOT NULL,
  digest BLOB NOT NULL,
  body BLOB NOT NULL, -- the alert as JSON
  raw BLOB NOT NULL -- the vendor's record as it came
) STRICT;

-- First versions are most of the rows and are found through alerts.first_seq; only later ones need an index.
CREATE UNIQUE INDEX later_versions ON changes (uid, updated, digest) WHERE revision > 1;

-- Each keyword value once, as field:value. Its postings are the token t<id> in the column terms of postings.
CREATE TABLE terms (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- rowid is alerts.key. Text arrives folded, as words between blanks, so that the plainest tokenizer sees the same words.
CREATE VIRTUAL TABLE postings USING fts5 (
  title, description, other, terms, content = '', contentless_delete = 1, tokenize = 'ascii'
);

CREATE TABLE coverage (
  source INTEGER NOT NULL,
  start INTEGER NOT NULL,
  finish INTEGER NOT NULL,
  PRIMARY KEY (source, start)
) STRICT, WITHOUT ROWID;

-- A ring: slot is the number of the sample, modulo its length.
CREATE TABLE lags (
  source INTEGER NOT NULL,
  slot INTEGER NOT NULL,
  lag INTEGER NOT NULL,
  PRIMARY KEY (source, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
  source INTEGER NOT NULL,
  digest BLOB NOT NULL,
  raw BLOB NOT NULL,
  reason TEXT NOT NULL,
  first_seen INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  times INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (source, digest)
) STRICT;

CREATE TABLE leases (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL, -- empty when it was given up
  token INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  ttl INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE memory (
  source TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE positions (
  sink TEXT PRIMARY KEY,
  seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  seq INTEGER NOT NULL,
  reason TEXT NOT NULL,
  at INTEGER NOT NULL,
  UNIQUE (sink, seq)
) STRICT;

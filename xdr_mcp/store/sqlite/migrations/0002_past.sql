-- What was known at a moment (past.py): which versions were overtaken after a seq, and where in the listing they stood.

CREATE INDEX overtaken ON changes (seq, before_seq) WHERE before_seq IS NOT NULL;

-- A change of its created time moved an alert in the listing: where it had stood until then. Moves that were made before
-- this table was are not known: such an alert of the past is listed where it stands now.
CREATE TABLE moves (
  uid BLOB NOT NULL,
  seq INTEGER NOT NULL,
  key INTEGER NOT NULL,
  PRIMARY KEY (uid, seq)
) STRICT, WITHOUT ROWID;

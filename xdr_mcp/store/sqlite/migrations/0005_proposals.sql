-- What a person is asked to decide on, and the chained log of what became of it (proposal.py).

CREATE TABLE proposals (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  uid BLOB NOT NULL, -- as in alerts
  digest BLOB NOT NULL, -- of what is asked for
  state TEXT NOT NULL,
  changed INTEGER NOT NULL,
  body BLOB NOT NULL -- the proposal as JSON
) STRICT;

CREATE UNIQUE INDEX undecided_proposals ON proposals (digest) WHERE state IN ('open', 'applying');
CREATE INDEX proposals_by_state ON proposals (state, number);

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  body BLOB NOT NULL,
  hash BLOB NOT NULL
) STRICT;

CREATE TRIGGER audit_is_not_edited BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit log is never edited'); END;
CREATE TRIGGER audit_is_not_cut BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit log is never cut'); END;

-- How many alerts were created in each hour and each day, by what a summary is asked for (tallies.py).

CREATE TABLE tallies (
  unit INTEGER NOT NULL, -- hours that a row is about: 1 or 24
  start INTEGER NOT NULL, -- its first, in hours since 1970, UTC
  severity INTEGER NOT NULL,
  status INTEGER NOT NULL,
  verdict INTEGER NOT NULL,
  alerts INTEGER NOT NULL,
  PRIMARY KEY (unit, start, severity, status, verdict)
) STRICT, WITHOUT ROWID;

INSERT INTO tallies
SELECT 1, (created - (created % 3600000000 + 3600000000) % 3600000000) / 3600000000 AS hour, severity, status, verdict, count(*)
FROM alerts GROUP BY hour, severity, status, verdict;

INSERT INTO tallies
SELECT 24, start - (start % 24 + 24) % 24 AS day, severity, status, verdict, sum(alerts)
FROM tallies WHERE unit = 1 GROUP BY day, severity, status, verdict;

-- Keyword values are tokens of the full-text index themselves, such as host:web-01 (a blank in one is a no-break space): its
-- vocabulary is the dictionary. A table of values with a unique index cost a page of the file for each new value.

DROP TABLE postings;
DROP TABLE terms;
DELETE FROM memory WHERE source = '' AND key = 'prunings';

-- rowid is alerts.key. Text arrives folded, as words between blanks, so that the plainest tokenizer sees the same words.
CREATE VIRTUAL TABLE postings USING fts5 (
  title, description, other, terms, content = '', contentless_delete = 1,
  tokenize = "ascii tokenchars '!""#$%&''()*+,-./:;<=>?@[\]^_`{|}~'"
);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab (postings, instance);

INSERT INTO postings (rowid, title, description, other, terms)
SELECT a.key, posted(c.body, 0), posted(c.body, 1), posted(c.body, 2), posted(c.body, 3)
FROM alerts AS a JOIN changes AS c ON c.seq = a.seq ORDER BY a.key;

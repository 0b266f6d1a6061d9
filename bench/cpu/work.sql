-- SPDX-License-Identifier: GPL-2.0-or-later
-- Inserts, an index, joins, aggregates and text search, all in memory.
CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, weight REAL, name TEXT);
CREATE TABLE kind(id INTEGER PRIMARY KEY, title TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000)
INSERT INTO item SELECT i, (i * 7919) % 997, (i % 1000) * 0.25, printf('item-%08x', (i * 2654435761) & 0xffffffff) FROM n;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 996)
INSERT INTO kind SELECT i, 'kind ' || i FROM n;
COMMIT;
CREATE INDEX item_kind ON item(kind, weight);
SELECT count(*), sum(weight), min(name), max(name) FROM item;
SELECT title, count(*), avg(weight) FROM item JOIN kind ON kind.id = item.kind GROUP BY title ORDER BY 3 DESC, title LIMIT 20;
SELECT count(*) FROM item WHERE name LIKE '%abc%';
UPDATE item SET weight = weight + 1 WHERE kind % 3 = 0;
DELETE FROM item WHERE kind % 5 = 1;
SELECT kind, sum(weight) FROM item WHERE name > 'item-8' GROUP BY kind HAVING sum(weight) > 6000 ORDER BY kind LIMIT 40;
SELECT count(*) FROM item a JOIN item b ON b.id = a.id + 1 AND b.kind > a.kind;
SELECT substr(name, 6, 2) AS p, count(*), total(weight) FROM item GROUP BY p ORDER BY p LIMIT 64;

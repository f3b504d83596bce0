-- A table of the schemas $1 (null for all), quoted: the first that this session's user can read; if there is none and $2
-- does not insist on it, the first of all. Tables of extensions are nobody's data, and on RDS the master may not grant them.
SELECT format('%I.%I', t.nspname, t.relname)
FROM (SELECT n.nspname, c.relname,
             pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS readable
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND ($1::text[] IS NULL OR n.nspname = ANY ($1::text[]))
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                          AND d.deptype = 'e')) AS t
WHERE t.readable OR NOT $2::boolean
ORDER BY t.readable DESC, t.nspname, t.relname
LIMIT 1

-- The rights that the roles of $5 were granted on what others own and that are not among those wanted ($1 role,
-- $2 kind, $3 privilege, $4 schema or null for all, side by side), by grantor; and, with no role, what everybody may write,
-- read and connect to. Only what was granted by name: the defaults give rights to owners and to PUBLIC alone, CONNECT
-- among them. What belongs to an extension is left to the extension.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w (role, kind, privilege, schema)
), schemas AS (
    SELECT n.oid, n.nspname, n.nspacl, n.nspowner,
           CASE o.rolname WHEN 'pg_database_owner' THEN d.datdba ELSE n.nspowner END AS owner
    FROM pg_namespace n
    JOIN pg_roles o ON o.oid = n.nspowner
    JOIN pg_database d ON d.datname = current_database()
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')
), relations AS (
    SELECT c.oid, c.relkind, c.relowner, c.relacl, s.nspname
    FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
), objects AS (
    SELECT 'database' AS kind, ''::name AS schema, d.datdba AS owner, d.datdba AS grantor,
           coalesce(d.datacl, acldefault('d', d.datdba)) AS acl,
           false AS columns
    FROM pg_database d WHERE d.datname = current_database()
    UNION ALL
    SELECT 'schema', s.nspname, s.owner, s.nspowner, s.nspacl, false
    FROM schemas s
    UNION ALL
    SELECT CASE r.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, r.nspname, r.relowner, r.relowner, r.relacl, false
    FROM relations r
    UNION ALL
    SELECT 'table', r.nspname, r.relowner, r.relowner, a.attacl, true
    FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid
    WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
    UNION ALL
    SELECT 'routine', s.nspname, p.proowner, p.proowner, p.proacl, false
    FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
)
SELECT DISTINCT g.rolname::text AS role, o.kind, o.schema::text, a.privilege_type,
       CASE WHEN o.columns THEN 'columns' WHEN w.wanted THEN 'grant option' ELSE 'right' END AS extent,
       b.rolname::text AS grantor
-- Objects with the same rights are looked at once: there may be many.
FROM (SELECT DISTINCT * FROM objects) o
CROSS JOIN LATERAL aclexplode(o.acl) a
JOIN pg_roles b ON b.oid = CASE a.grantor WHEN o.grantor THEN o.owner ELSE a.grantor END
LEFT JOIN pg_roles g ON g.oid = a.grantee
-- As IN, which the server looks up in a table of hashes whatever it makes of the numbers: there may be many.
CROSS JOIN LATERAL (
    SELECT coalesce(
        (g.rolname::text, o.kind, a.privilege_type) IN (SELECT role, kind, privilege FROM wanted WHERE schema IS NULL)
        OR (g.rolname::text, o.kind, a.privilege_type, o.schema::text)
            IN (SELECT role, kind, privilege, schema FROM wanted WHERE schema IS NOT NULL), false) AS wanted
) w
WHERE CASE a.grantee
      WHEN 0 THEN (o.kind, a.privilege_type) IN (
          ('database', 'CREATE'), ('schema', 'CREATE'), ('table', 'INSERT'), ('table', 'UPDATE'), ('table', 'DELETE'),
          ('table', 'TRUNCATE'), ('table', 'TRIGGER'), ('sequence', 'USAGE'), ('sequence', 'UPDATE'),
          ('database', 'CONNECT'), ('table', 'SELECT'))
      ELSE g.rolname = ANY ($5::text[]) AND a.grantee <> o.owner AND (o.columns OR NOT w.wanted OR a.is_grantable)
          -- What one of them handed on goes together with its grant option.
          AND (a.grantor = o.grantor OR b.rolname <> ALL ($5::text[]))
      END

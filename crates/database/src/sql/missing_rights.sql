-- The rights ($1 role, $2 kind, $3 privilege, $4 schema or null for all, side by side) that are missing on at least one
-- object, by owner.
-- What belongs to an extension is left to the extension: it grants to PUBLIC what everybody may use.
-- A right counts if its owner granted it, where the master can act for the owner: one that somebody else handed on goes
-- when that somebody loses the grant option. That everybody may create in a schema does not count: it may not stay so.
WITH schemas AS (
    SELECT n.oid, n.nspname, n.nspacl, CASE o.rolname WHEN 'pg_database_owner' THEN d.datdba ELSE n.nspowner END AS owner,
           n.nspowner
    FROM pg_namespace n
    JOIN pg_roles o ON o.oid = n.nspowner
    JOIN pg_database d ON d.datname = current_database()
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')
), objects AS (
    SELECT 'database' AS kind, ''::name AS schema, d.datdba AS owner, d.datdba AS grantor,
           coalesce(d.datacl, acldefault('d', d.datdba)) AS acl
    FROM pg_database d WHERE d.datname = current_database()
    UNION ALL
    SELECT 'schema', s.nspname, s.owner, s.nspowner, coalesce(s.nspacl, acldefault('n', s.nspowner))
    FROM schemas s
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, s.nspname, c.relowner, c.relowner,
           coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
    FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
    UNION ALL
    SELECT 'routine', s.nspname, p.proowner, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
)
SELECT DISTINCT w.role, o.kind, o.schema::text, w.privilege, r.rolname::text AS owner
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w (role, kind, privilege, schema)
-- Objects with the same rights are looked at once: there may be many.
JOIN (SELECT DISTINCT * FROM objects) o
    ON o.kind = w.kind AND (w.schema IS NULL OR w.schema = o.schema)
JOIN pg_roles r ON r.oid = o.owner
LEFT JOIN pg_roles g ON g.rolname = w.role
WHERE NOT EXISTS (SELECT FROM aclexplode(o.acl) a
                  WHERE a.privilege_type = w.privilege
                    AND CASE a.grantee
                        WHEN 0 THEN w.kind <> 'schema' OR w.privilege <> 'CREATE'
                        WHEN g.oid THEN a.grantor = o.grantor OR r.rolsuper OR r.rolname ~ '^(pg_|rds)'
                        END)

-- The rights that default privileges give the roles of $5 on what others make later and that are not among those wanted
-- ($1 role, $2 kind, $3 privilege, $4 schema or null for all, side by side).
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w (role, kind, privilege, schema)
)
SELECT o.rolname::text AS owner, n.nspname::text AS schema, g.rolname::text AS role, c.kind, a.privilege_type,
       CASE WHEN w.wanted THEN 'grant option' ELSE 'right' END AS extent
FROM pg_default_acl d
JOIN (VALUES ('schema', 'n'::"char"), ('table', 'r'), ('sequence', 'S'), ('routine', 'f')) AS c (kind, code)
    ON c.code = d.defaclobjtype
CROSS JOIN LATERAL aclexplode(d.defaclacl) a
JOIN pg_roles o ON o.oid = d.defaclrole
JOIN pg_roles g ON g.oid = a.grantee
LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
-- As IN, which the server looks up in a table of hashes whatever it makes of the numbers: there may be many.
CROSS JOIN LATERAL (
    SELECT coalesce(
        (g.rolname::text, c.kind, a.privilege_type) IN (SELECT role, kind, privilege FROM wanted WHERE schema IS NULL)
        OR (g.rolname::text, c.kind, a.privilege_type, n.nspname::text)
            IN (SELECT role, kind, privilege, schema FROM wanted WHERE schema IS NOT NULL), false) AS wanted
) w
WHERE g.rolname = ANY ($5::text[]) AND a.grantee <> d.defaclrole AND (NOT w.wanted OR a.is_grantable)

-- The rights that default privileges give the roles of $5 on what others make later and that are not among those wanted
-- ($1 role, $2 kind, $3 privilege, $4 schema or null for all, side by side).
SELECT o.rolname::text AS owner, n.nspname::text AS schema, g.rolname::text AS role, c.kind, a.privilege_type,
       CASE WHEN w.role IS NULL THEN 'right' ELSE 'grant option' END AS extent
FROM pg_default_acl d
JOIN (VALUES ('schema', 'n'::"char"), ('table', 'r'), ('sequence', 'S'), ('routine', 'f')) AS c (kind, code)
    ON c.code = d.defaclobjtype
CROSS JOIN LATERAL aclexplode(d.defaclacl) a
JOIN pg_roles o ON o.oid = d.defaclrole
JOIN pg_roles g ON g.oid = a.grantee
LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
LEFT JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w (role, kind, privilege, schema)
    ON w.role = g.rolname AND w.kind = c.kind AND w.privilege = a.privilege_type
       AND (w.schema IS NULL OR w.schema = n.nspname)
WHERE g.rolname = ANY ($5::text[]) AND a.grantee <> d.defaclrole AND (w.role IS NULL OR a.is_grantable)

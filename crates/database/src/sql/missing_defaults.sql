-- The rights ($2 role, $3 kind, $4 privilege, $5 schema or null for all, side by side) that objects made later by one of
-- $1 would lack. Within a schema there are none for schemas, and at first none for anybody.
-- What everybody gets does not count: whoever makes a function may take EXECUTE from everybody.
SELECT m.name, w.schema, w.role, w.kind, w.privilege
FROM unnest($1::text[]) AS m (name)
CROSS JOIN unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS w (role, kind, privilege, schema)
JOIN (VALUES ('schema', 'n'::"char", 'n'::"char"), ('table', 'r', 'r'), ('sequence', 'S', 's'), ('routine', 'f', 'f'))
    AS c (kind, default_code, acl_code) ON c.kind = w.kind
LEFT JOIN pg_namespace n ON n.nspname = w.schema
LEFT JOIN pg_roles o ON o.rolname = m.name
LEFT JOIN pg_roles g ON g.rolname = w.role
LEFT JOIN pg_default_acl d
    ON d.defaclrole = o.oid AND d.defaclnamespace = coalesce(n.oid, 0) AND d.defaclobjtype = c.default_code
WHERE m.name <> w.role AND (w.schema IS NULL OR n.oid IS NOT NULL AND w.kind <> 'schema')
  AND NOT EXISTS (SELECT FROM aclexplode(CASE WHEN w.schema IS NULL
                                          THEN coalesce(d.defaclacl, acldefault(c.acl_code, coalesce(o.oid, 10)))
                                          ELSE d.defaclacl END) a
                  WHERE a.privilege_type = w.privilege AND a.grantee = g.oid)

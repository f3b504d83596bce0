-- Every membership. Before PostgreSQL 16 the grantor was written down and meant nothing.
SELECT g.rolname::text, m.rolname::text,
       CASE WHEN current_setting('server_version_num')::int >= 160000 THEN b.rolname::text END AS grantor
FROM pg_auth_members a
JOIN pg_roles g ON g.oid = a.roleid
JOIN pg_roles m ON m.oid = a.member
LEFT JOIN pg_roles b ON b.oid = a.grantor

-- Every database but templates and RDS's own. A limit of -2 marks one whose DROP was cut short.
SELECT d.datname::text, o.rolname::text, d.datallowconn AND d.datconnlimit <> -2 AS open,
       has_database_privilege(d.oid, 'CONNECT') AS reachable
FROM pg_database d
JOIN pg_roles o ON o.oid = d.datdba
WHERE NOT d.datistemplate AND d.datname <> 'rdsadmin'
ORDER BY d.datname

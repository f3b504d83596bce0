-- Schemas in which everybody may create objects.
SELECT n.nspname::text
FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND a.grantee = 0 AND a.privilege_type = 'CREATE'
ORDER BY n.nspname

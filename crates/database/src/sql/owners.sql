-- Who owns the database or anything in its schemas, what belongs to extensions left out; and which of the schemas $1 it has.
WITH schemas AS (
    SELECT n.oid, n.nspname, n.nspowner
    FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')
), owners AS (
    SELECT d.datdba AS owner FROM pg_database d WHERE d.datname = current_database()
    UNION
    SELECT s.nspowner FROM schemas s
    UNION
    SELECT c.relowner FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
    UNION
    SELECT p.proowner FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
)
SELECT 'owner' AS what, r.rolname::text AS name FROM owners o JOIN pg_roles r ON r.oid = o.owner
WHERE r.rolname <> 'pg_database_owner'
UNION ALL
SELECT 'schema', s.nspname::text FROM schemas s WHERE s.nspname = ANY ($1::text[])

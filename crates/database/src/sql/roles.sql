-- Every role.
SELECT r.rolname::text,
       r.rolcanlogin, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls, r.rolinherit,
       r.rolconnlimit,
       coalesce(r.rolvaliduntil <> 'infinity', false) AS expires,
       shobj_description(r.oid, 'pg_authid') AS comment,
       EXISTS (SELECT FROM pg_stat_activity a
               WHERE a.usesysid = r.oid AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid())
           AS has_sessions,
       pg_has_role(r.oid, 'USAGE') AS master_acts_as,
       -- Since PostgreSQL 16, CREATEROLE alone grants no membership in a role that somebody else made.
       pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
           OR (current_setting('server_version_num')::int < 160000 AND NOT r.rolsuper
               AND (SELECT me.rolcreaterole FROM pg_roles me WHERE me.rolname = current_user))
           AS master_may_grant
FROM pg_roles r

-- Every role.
SELECT r.rolname::text,
       r.rolcanlogin, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls, r.rolinherit,
       r.rolconnlimit,
       coalesce(r.rolvaliduntil <> 'infinity', false) AS expires,
       coalesce(r.rolvaliduntil <= 'epoch', false) AS never_by_password,
       shobj_description(r.oid, 'pg_authid') AS comment,
       EXISTS (SELECT FROM pg_stat_activity a
               WHERE a.usesysid = r.oid AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid())
           AS has_sessions,
       -- Since PostgreSQL 16, to have a role's rights and to be able to become it are two things.
       pg_has_role(r.oid, 'USAGE') AND pg_has_role(
           r.oid, CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'USAGE' ELSE 'SET' END)
           AS master_acts_as,
       -- Since PostgreSQL 16, CREATEROLE alone grants no membership in a role that somebody else made.
       pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
           OR (current_setting('server_version_num')::int < 160000 AND NOT r.rolsuper
               AND (SELECT me.rolcreaterole FROM pg_roles me WHERE me.rolname = current_user))
           AS master_may_grant,
       -- Owner or grantee, of anything in any database and of what databases share.
       EXISTS (SELECT FROM pg_shdepend d
               WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype IN ('o', 'a'))
           AS holds_something
FROM pg_roles r

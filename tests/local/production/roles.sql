-- What a production cluster's catalogue holds, run as `rdsadmin` on a fresh server.

-- RDS's own roles. Only AWS is a superuser: the master user is a member of rds_superuser, which is none.
CREATE ROLE rds_superuser NOLOGIN;
CREATE ROLE rds_replication NOLOGIN;
CREATE ROLE rds_iam NOLOGIN;
CREATE ROLE rds_password NOLOGIN;
CREATE ROLE rds_ad NOLOGIN;
CREATE ROLE rdsrepladmin NOLOGIN REPLICATION;
CREATE ROLE rdstopmgr LOGIN;
GRANT pg_monitor TO rdstopmgr;
GRANT pg_monitor, pg_signal_backend, pg_read_all_settings, rds_replication, rds_password TO rds_superuser
    WITH ADMIN OPTION;
CREATE ROLE master LOGIN CREATEROLE CREATEDB;
GRANT rds_superuser TO master;
-- From PostgreSQL 16 on CREATEROLE alone does not give away roles that others made; on RDS the master user still can.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 160000 THEN
        GRANT rds_superuser TO master WITH ADMIN OPTION;
        EXECUTE 'GRANT rds_iam TO master WITH ADMIN TRUE, INHERIT FALSE, SET FALSE';
    END IF;
END
$$;
ALTER DATABASE postgres OWNER TO master;
ALTER DATABASE template1 OWNER TO master;

-- Production's roles were made by the master user, as customers do: from PostgreSQL 16 on that decides who may change them.
SET SESSION AUTHORIZATION master;

-- Owners: nobody logs in as these.
CREATE ROLE app_owner;
CREATE ROLE sales_owner;
CREATE ROLE hr_owner;
CREATE ROLE analytics_owner;

-- Groups.
CREATE ROLE readers;
CREATE ROLE writers;
CREATE ROLE hr_readers;
CREATE ROLE "Team Analytics";

-- Logins of people and programs. Their passwords are set by the stack, which knows them (postgres.py).
CREATE ROLE prod_app LOGIN IN ROLE writers;
CREATE ROLE prod_reporting LOGIN IN ROLE readers;
CREATE ROLE prod_etl LOGIN CREATEDB IN ROLE readers, writers;
CREATE ROLE prod_batch LOGIN VALID UNTIL '2040-01-01' CONNECTION LIMIT 5 IN ROLE writers;
CREATE ROLE "alice.dba" LOGIN CREATEROLE IN ROLE rds_superuser;
CREATE ROLE "Bob O'Hara" LOGIN IN ROLE hr_readers;
CREATE ROLE prod_iam LOGIN IN ROLE rds_iam, readers;
CREATE ROLE prod_retired NOLOGIN;
GRANT app_owner TO prod_etl;
ALTER ROLE prod_reporting SET statement_timeout = '30s';

RESET SESSION AUTHORIZATION;

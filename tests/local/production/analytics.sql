-- The database `analytics`, owned by a role of production's own and closed to everybody who is not invited.

REVOKE CONNECT ON DATABASE analytics FROM PUBLIC;
GRANT CONNECT ON DATABASE analytics TO readers, "Team Analytics";

SET SESSION AUTHORIZATION analytics_owner;
CREATE SCHEMA reports;
CREATE TABLE reports.daily_active_users (day date PRIMARY KEY, users integer NOT NULL);
INSERT INTO reports.daily_active_users SELECT current_date - n, 1000 + n % 37 FROM generate_series(0, 364) AS n;
CREATE VIEW reports.last_week AS SELECT * FROM reports.daily_active_users WHERE day > current_date - 7;
GRANT USAGE ON SCHEMA reports TO readers, "Team Analytics";
GRANT SELECT ON ALL TABLES IN SCHEMA reports TO readers, "Team Analytics";
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO readers;
RESET SESSION AUTHORIZATION;

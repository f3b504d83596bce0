-- Sets each password of the temporary table. The inner statement is not logged by log_statement, and if it fails,
-- the error that leaves here holds neither it nor its context.
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN SELECT role, verifier FROM pg_temp.aurora_restore_passwords LOOP
        BEGIN
            EXECUTE format('ALTER ROLE %I PASSWORD %L', item.role, item.verifier);
        EXCEPTION WHEN OTHERS THEN
            RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = format('the password of role %I was refused', item.role);
        END;
    END LOOP;
END
$$

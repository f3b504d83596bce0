-- The database `app`, owned by the master user as on RDS; schemas and tables belong to owner roles.
-- Freshness counts from now: the template is made when the stack starts, as if the snapshot were a few minutes old.

CREATE SCHEMA sales AUTHORIZATION sales_owner;
CREATE SCHEMA hr AUTHORIZATION hr_owner;
CREATE SCHEMA "Sales Archive 2024" AUTHORIZATION sales_owner;
GRANT CREATE, USAGE ON SCHEMA public TO app_owner;
GRANT USAGE ON SCHEMA sales TO readers, writers;
GRANT USAGE ON SCHEMA hr TO hr_readers;

SET SESSION AUTHORIZATION app_owner;
CREATE TABLE public.customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL
);
INSERT INTO public.customers (name, email, created_at)
    SELECT 'Customer ' || n, 'customer' || n || '@example.com', now() - n * interval '3 hours' - interval '5 minutes'
    FROM generate_series(0, 999) AS n;
CREATE TABLE public.settings (key text PRIMARY KEY, value jsonb NOT NULL);
INSERT INTO public.settings VALUES ('theme', '"dark"'), ('features', '{"beta": false}');
CREATE SEQUENCE public.ticket_number START 5000;
SELECT nextval('public.ticket_number');
CREATE FUNCTION public.customer_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.customers';
GRANT SELECT ON ALL TABLES IN SCHEMA public TO readers;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO writers;
GRANT REFERENCES, SELECT ON public.customers TO sales_owner;
RESET SESSION AUTHORIZATION;

SET SESSION AUTHORIZATION sales_owner;
CREATE TYPE sales.order_status AS ENUM ('placed', 'paid', 'shipped');
CREATE TABLE sales.orders (
    id bigserial PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES public.customers (id),
    status sales.order_status NOT NULL DEFAULT 'placed',
    amount numeric(10, 2) NOT NULL,
    created_at timestamptz NOT NULL
);
INSERT INTO sales.orders (customer_id, status, amount, created_at)
    SELECT 1 + n % 1000, (enum_range(NULL::sales.order_status))[1 + n % 3], 10 + n % 490, now() - n * interval '20 minutes' - interval '4 minutes'
    FROM generate_series(0, 4999) AS n;
CREATE INDEX orders_created_at ON sales.orders (created_at);
CREATE VIEW sales.open_orders AS SELECT * FROM sales.orders WHERE status <> 'shipped';
CREATE MATERIALIZED VIEW sales.revenue_by_day AS
    SELECT created_at::date AS day, sum(amount) AS revenue FROM sales.orders GROUP BY 1;
CREATE FUNCTION sales.order_total(customer bigint) RETURNS numeric LANGUAGE sql STABLE
    AS 'SELECT coalesce(sum(amount), 0) FROM sales.orders WHERE customer_id = customer';
CREATE TABLE "Sales Archive 2024"."Orders 2024" ("Order No" bigint PRIMARY KEY, "Amount" numeric(10, 2));
INSERT INTO "Sales Archive 2024"."Orders 2024" SELECT n, n * 1.5 FROM generate_series(1, 200) AS n;
-- Objects that production makes later are granted without anybody asking. A restore inherits this too.
ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO readers;
GRANT SELECT ON ALL TABLES IN SCHEMA sales TO readers;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sales TO writers;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA sales TO writers;
RESET SESSION AUTHORIZATION;

SET SESSION AUTHORIZATION hr_owner;
CREATE TABLE hr.employees (
    id integer PRIMARY KEY,
    full_name text NOT NULL,
    email text NOT NULL,
    phone text,
    date_of_birth date,
    salary numeric(10, 2)
);
INSERT INTO hr.employees
    SELECT n, 'Employee ' || n, 'employee' || n || '@example.com', '+1-555-01' || lpad((n % 100)::text, 2, '0'),
        date '1970-01-01' + n * 97, 40000 + n * 111
    FROM generate_series(1, 120) AS n;
CREATE FUNCTION hr.head_count() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = hr
    AS 'SELECT count(*) FROM hr.employees';
REVOKE EXECUTE ON FUNCTION hr.head_count() FROM PUBLIC;
GRANT SELECT ON hr.employees TO hr_readers;
RESET SESSION AUTHORIZATION;

-- One database and one login role for each service, and no way across; safe to run again (psql, as the superuser).
-- Each password comes from its file inside psql, so that it stands in no process list.
SET log_min_error_statement = panic; -- a failing statement would put its password into the log

\set password `cat "$KURSNETT_SECRETS_DIR/postgres/catalogue_password"`
SELECT 'CREATE ROLE catalogue' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'catalogue') \gexec
ALTER ROLE catalogue LOGIN PASSWORD :'password';
SELECT 'CREATE DATABASE catalogue OWNER catalogue'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'catalogue') \gexec

\set password `cat "$KURSNETT_SECRETS_DIR/postgres/enrolment_password"`
SELECT 'CREATE ROLE enrolment' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'enrolment') \gexec
ALTER ROLE enrolment LOGIN PASSWORD :'password';
SELECT 'CREATE DATABASE enrolment OWNER enrolment'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'enrolment') \gexec

\set password `cat "$KURSNETT_SECRETS_DIR/postgres/notifier_password"`
SELECT 'CREATE ROLE notifier' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'notifier') \gexec
ALTER ROLE notifier LOGIN PASSWORD :'password';
SELECT 'CREATE DATABASE notifier OWNER notifier'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'notifier') \gexec

-- Without this every role may connect to every database.
REVOKE ALL ON DATABASE postgres, template1, catalogue, enrolment, notifier FROM PUBLIC;

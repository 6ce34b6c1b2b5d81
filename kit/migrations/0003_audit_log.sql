-- What operators have done, on the console and on the command line: written in the transaction of the act itself.
CREATE TABLE operator_acts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT app_now(),
    way text NOT NULL,
    by text NOT NULL,  -- on the console a digest of issuer and subject; on the command line the machine's user
    name text,         -- as the issuer says it, or as was said with --by
    act text NOT NULL,
    about text NOT NULL,
    reason text NOT NULL,
    CONSTRAINT operator_acts_way CHECK (way IN ('console', 'command'))
);

-- It is only ever added to. A service has one role, which owns its tables, so that a right taken from it would be its
-- to give back: what refuses is a trigger, which no statement of the application and no slip of an operator gets past.
CREATE FUNCTION operator_acts_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'operator_acts is only added to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER operator_acts_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_acts
    FOR EACH STATEMENT EXECUTE FUNCTION operator_acts_stay();

-- squawk-ignore-file adding-field-with-default, require-concurrent-index-creation
-- Both tables are written anew under their locks, which takes seconds for some ten thousand courses; reads wait so long.
-- What courses are found by. Every column below is worked out from what the partner said whenever that is written, in the
-- same statement: nothing can forget to, and the rows that are there get theirs now.

CREATE FUNCTION texts_of(by_language jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(string_agg(value, E'\n' ORDER BY key), '') FROM jsonb_each_text(by_language));

-- Each word by its Norwegian stem (the dictionary knows the endings of both written languages) and as it stands: the stem
-- of `kurs` is `kur` but that of `kurset` is `kurs`, and a word that is half typed has no stem yet. Only stems have places:
-- with those of the words behind them, the last word would stand before the first.
CREATE FUNCTION words_of(text_ text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_tsvector('pg_catalog.norwegian', text_) || strip(to_tsvector('pg_catalog.simple', text_));

-- The code whole and in its parts: HELSE-101 is found by `helse-1`, by `helse` and by `101`.
CREATE FUNCTION words_of_code(code text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_tsvector('pg_catalog.simple', code)
        || array_to_tsvector(array_remove(lower(code) || regexp_split_to_array(lower(code), '[._-]+'), ''));

-- What to find: each of `words` (a word, or words in quotation marks, or several with `or` between), none of `without`,
-- and `typed` as a word or as the beginning of one. A word that is in every text ("og") is left out.
CREATE FUNCTION course_query(words text[], without text[], typed text) RETURNS tsquery
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT string_agg(part, ' & ')::tsquery FROM (
            SELECT '(' || (stems || plain)::text || ')' AS part
            FROM (
                SELECT websearch_to_tsquery('pg_catalog.norwegian', word) AS stems,
                       websearch_to_tsquery('pg_catalog.simple', word) AS plain
                FROM unnest(words) AS word
            ) AS each WHERE numnode(stems) > 0
            UNION ALL
            SELECT '!(' || (stems || plain)::text || ')'
            FROM (
                SELECT websearch_to_tsquery('pg_catalog.norwegian', word) AS stems,
                       websearch_to_tsquery('pg_catalog.simple', word) AS plain
                FROM unnest(without) AS word
            ) AS each WHERE numnode(stems) > 0
            UNION ALL
            SELECT '(' || (
                websearch_to_tsquery('pg_catalog.norwegian', typed) || websearch_to_tsquery('pg_catalog.simple', typed)
                || (quote_literal(nullif(typed, '')) || ':*')::tsquery  -- constants are worked out before WHERE is asked
            )::text || ')'
            WHERE typed <> ''
        ) AS parts
    );

-- As `@@`, told for as dear as it is: the words of a long text lie beside the row, which the planner does not reckon with.
-- By it, PostgreSQL takes the index for a rare word, and looks through the courses in order for one that most have.
CREATE FUNCTION holds(words tsvector, query tsquery) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000
    AS 'BEGIN RETURN words @@ query; END';

-- Norwegian order without ICU, which not every PostgreSQL has: æ, ø, å come last, `aa` is å, letters from elsewhere stand
-- where Norwegian readers look for them, and what stands before the first letter does not count.
CREATE FUNCTION norwegian_order(title text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN translate(
        ltrim(replace(lower(title), 'aa', 'å'), E' \u00a0"''«»“”„‘’()[]{}-–—.…!?¿¡*#'),
        'æøåäöüéèêëàáâãíìîïóòôõúùûñçčđðŋšŧž', '{|}{|yeeeeaaaaiiiioooouuunccddnstz'
    );

-- Partners' times are kept in UTC with a Z, so that this cast depends on nothing.
CREATE FUNCTION instant_of(written text) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN written::timestamptz;

CREATE FUNCTION arenas_of(places jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY(SELECT place->>'arena' FROM jsonb_array_elements(places) AS place);

CREATE FUNCTION list_of(texts jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY(SELECT jsonb_array_elements_text(texts));

-- What a search looks at stays in the row; what is long is stored beside it.
ALTER TABLE courses SET (toast_tuple_target = 512);

-- Three sets of words, each with the one before it: in the title or code, in the summary too, anywhere. Where a word was
-- found is what the order of the answers depends on.
ALTER TABLE courses
    ADD title_order text COLLATE "C" GENERATED ALWAYS AS (norwegian_order(coalesce(
        content->'title'->>'nb', content->'title'->>'nn', content->'title'->>'en',
        content->'title'->>'sma', content->'title'->>'sme', code
    ))) STORED,
    ADD subjects text[] GENERATED ALWAYS AS (list_of(content->'subjects')) STORED,
    ADD level text GENERATED ALWAYS AS (content->>'level') STORED,
    ADD language text GENERATED ALWAYS AS (coalesce(content->>'language', 'nb')) STORED,
    ADD title_words tsvector GENERATED ALWAYS AS (
        words_of_code(code) || words_of(texts_of(content->'title'))
    ) STORED,
    ADD brief_words tsvector GENERATED ALWAYS AS (
        words_of_code(code) || words_of(texts_of(content->'title') || E'\n' || texts_of(content->'summary'))
    ) STORED,
    ADD all_words tsvector GENERATED ALWAYS AS (
        words_of_code(code) || words_of(
            texts_of(content->'title') || E'\n' || texts_of(content->'summary')
            || E'\n' || texts_of(content->'description')
        )
    ) STORED;

ALTER TABLE offerings
    ADD starts_at timestamptz GENERATED ALWAYS AS (instant_of(content->>'starts_at')) STORED,
    ADD arenas text[] GENERATED ALWAYS AS (arenas_of(content->'places')) STORED;

CREATE INDEX courses_by_title ON courses (title_order, id);
-- New words wait in a list that each search reads: a short one.
CREATE INDEX courses_by_title_words ON courses USING gin (title_words) WITH (gin_pending_list_limit = 256);
CREATE INDEX courses_by_brief_words ON courses USING gin (brief_words) WITH (gin_pending_list_limit = 256);
CREATE INDEX courses_by_all_words ON courses USING gin (all_words) WITH (gin_pending_list_limit = 256);
CREATE INDEX offerings_to_come ON offerings (starts_at, course_id) WHERE state = 'scheduled';

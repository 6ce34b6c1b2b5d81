-- The table is written anew under its lock, which takes seconds for some ten thousand courses; reads wait so long.
-- Where a database sorts and reads as C does, PostgreSQL takes every sign beyond ASCII for a letter: «Data» was one word
-- with its quotation marks, and a space that does not break held two words together. KI/AI it takes for a file's name.

-- A text with its words apart: what is not seen is left out, hyphens and apostrophes are those of a keyboard, and all
-- other signs are spaces. `services/catalogue/spelling.py` does the same with what is searched for.
CREATE FUNCTION words_apart(text_ text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN regexp_replace(
        translate(
            regexp_replace(text_, '[\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]', '', 'g'),
            E'\u2010\u2011\u2018\u2019\u201a/', '--'''''' '
        ),
        '[\u00a0-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u2000-\u2bff\u3000-\u303f\U0001f000-\U0001faff]',
        ' ', 'g'
    );

CREATE OR REPLACE FUNCTION words_of(text_ text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_tsvector('pg_catalog.norwegian', words_apart(text_))
        || strip(to_tsvector('pg_catalog.simple', words_apart(text_)));

-- The parts of a word with hyphens, beside each other; of none that would be left out, or the rest alone would do.
CREATE FUNCTION parts_of(word text) RETURNS tsquery
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT CASE WHEN numnode(beside) = 2 * cardinality(regexp_split_to_array(word, '-+')) - 1 THEN beside ELSE '' END
        FROM phraseto_tsquery('pg_catalog.norwegian', replace(word, '-', ' ')) AS beside
        WHERE word ~ '^[^" -]+(-+[^" -]+)+$'
    );

-- As before, and a word with hyphens is also found where its parts stand beside each other: `t1-t4` in T1–T4, `norsk-kurs`
-- in norsk kurs; when it is typed last, also where they are one word.
CREATE OR REPLACE FUNCTION course_query(words text[], without text[], typed text) RETURNS tsquery
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT string_agg(part, ' & ')::tsquery FROM (
            SELECT '(' || (stems || plain || parts)::text || ')' AS part
            FROM (
                SELECT websearch_to_tsquery('pg_catalog.norwegian', word) AS stems,
                       websearch_to_tsquery('pg_catalog.simple', word) AS plain,
                       coalesce(parts_of(word), '') AS parts
                FROM unnest(words) AS word
            ) AS each WHERE numnode(stems) > 0
            UNION ALL
            SELECT '!(' || (stems || plain || parts)::text || ')'
            FROM (
                SELECT websearch_to_tsquery('pg_catalog.norwegian', word) AS stems,
                       websearch_to_tsquery('pg_catalog.simple', word) AS plain,
                       coalesce(parts_of(word), '') AS parts
                FROM unnest(without) AS word
            ) AS each WHERE numnode(stems) > 0
            UNION ALL
            SELECT '(' || (
                websearch_to_tsquery('pg_catalog.norwegian', typed) || websearch_to_tsquery('pg_catalog.simple', typed)
                || (quote_literal(nullif(typed, '')) || ':*')::tsquery  -- constants are worked out before WHERE is asked
                || coalesce(parts_of(typed), '')
                || CASE WHEN parts_of(typed) IS NULL THEN '' ELSE (quote_literal(replace(typed, '-', '')) || ':*')::tsquery END
            )::text || ')'
            WHERE typed <> ''
        ) AS parts
    );

-- What is worked out from the texts is so anew.
ALTER TABLE courses
    ALTER COLUMN title_words SET EXPRESSION AS (words_of_code(code) || words_of(texts_of(content->'title'))),
    ALTER COLUMN brief_words SET EXPRESSION AS (
        words_of_code(code) || words_of(texts_of(content->'title') || E'\n' || texts_of(content->'summary'))
    ),
    ALTER COLUMN all_words SET EXPRESSION AS (
        words_of_code(code) || words_of(
            texts_of(content->'title') || E'\n' || texts_of(content->'summary')
            || E'\n' || texts_of(content->'description')
        )
    );

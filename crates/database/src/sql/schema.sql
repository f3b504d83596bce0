-- The shape of this database, a line for each part, in an order that depends on names only: no owners, no rights, no
-- sizes, no rows. Members of extensions are told by their extension.
WITH namespaces AS (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), relations AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_class c JOIN namespaces n ON n.oid = c.relnamespace
    WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
)
SELECT line FROM (
    SELECT format('schema %I', nspname) AS line FROM namespaces
    UNION ALL
    SELECT format('extension %I %s', extname, extversion) FROM pg_extension
    UNION ALL
    SELECT format('relation %s %I.%I', relkind, nspname, relname) FROM relations WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT format('column %I.%I.%I %s %s %s %s %s', r.nspname, r.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN 'not null' END, a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid))
    FROM relations r
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT format('constraint %I.%I.%I %s', r.nspname, r.relname, k.conname, pg_get_constraintdef(k.oid))
    FROM relations r JOIN pg_constraint k ON k.conrelid = r.oid
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(i.indexrelid))
    FROM relations r JOIN pg_index i ON i.indrelid = r.oid WHERE r.relkind IN ('r', 'p', 'm')
    UNION ALL
    SELECT format('view %I.%I %s', nspname, relname, pg_get_viewdef(oid)) FROM relations WHERE relkind IN ('v', 'm')
    UNION ALL
    SELECT format('trigger %I.%I %s', r.nspname, r.relname, pg_get_triggerdef(t.oid))
    FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT format('policy %I.%I.%I %s %s %s', r.nspname, r.relname, p.polname, p.polcmd,
                  pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
    UNION ALL
    SELECT format('routine %s %I.%I(%s) %s %s', p.prokind, n.nspname, p.proname, pg_get_function_identity_arguments(p.oid),
                  format_type(p.prorettype, NULL), md5(coalesce(p.prosrc, '')))
    FROM pg_proc p JOIN namespaces n ON n.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
    UNION ALL
    SELECT format('type %s %I.%I %s', t.typtype, n.nspname, t.typname,
                  (SELECT string_agg(format('%I', v.enumlabel), ',' ORDER BY v.enumsortorder) FROM pg_enum v WHERE v.enumtypid = t.oid))
    FROM pg_type t JOIN namespaces n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd', 'r')
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
) AS lines
ORDER BY line COLLATE "C"

-- Until the end of the transaction, as little as possible of it is written down, as far as this role may say so.
SELECT s.name, set_config(s.name, v.setting, true)
FROM (VALUES ('log_statement', 'none'), ('log_min_error_statement', 'panic'), ('log_min_duration_statement', '-1'),
             ('log_min_duration_sample', '-1'), ('log_parameter_max_length', '0'),
             ('pg_stat_statements.track', 'none'), ('pgaudit.log', 'none'), ('auto_explain.log_min_duration', '-1'))
    AS v (name, setting)
JOIN pg_settings s ON s.name = v.name
WHERE has_parameter_privilege(s.name, 'SET')

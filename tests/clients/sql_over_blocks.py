"""What anybody may do with the blocks of a data directory: ask DuckDB, with the view that storage/traces/SCHEMA.md shows.
Prints one JSON object."""

import json
import re
import sys

import duckdb

data_dir, schema = sys.argv[1:]
# The view as users copy it from the document, with their own directory.
view = re.search(r"CREATE VIEW spans AS.*?;", open(schema).read(), re.S).group(0)
db = duckdb.connect()
db.execute(view.replace("trilobite-data", data_dir))


def rows(sql, *args):
    return db.execute(sql, args).fetchall()


print(
    json.dumps(
        {
            "by_service": dict(rows("SELECT service_name, count(*) FROM spans GROUP BY 1")),
            "roots": rows("SELECT count(*) FROM spans WHERE parent_span_id IS NULL")[0][0],
            "ids": rows("SELECT hex(trace_id), count(DISTINCT hex(span_id)) FROM spans GROUP BY 1 ORDER BY 1"),
            "below_root": rows(
                """SELECT count(*) FROM spans a JOIN spans d USING (trace_id)
                   WHERE a.name = 'step 0' AND d.nested_set_left > a.nested_set_left
                     AND d.nested_set_right < a.nested_set_right"""
            )[0][0],
            "longest_ns": rows("SELECT max(duration_ns) FROM spans")[0][0],
            "years": rows("SELECT DISTINCT year(start_time) >= 2024 FROM spans"),
            "notes": rows("SELECT DISTINCT attributes['note'] AS note FROM spans WHERE note IS NOT NULL"),
        }
    )
)
